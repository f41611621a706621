"""Page `/settings/api-tokens`: generate, show once, restrict, rotate, revoke, and what a token sees."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from markupsafe import escape

from chalk_flask.auth.tokens import ApiToken
from chalk_flask.permissions.scopes import DEFAULT, DEMOGRAPHICS, GRADEBOOK_WRITE, ROSTER, ROSTER_CORE
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import utc_now
from tests.support.api_client import CHALK, IMS
from tests.support.console.client import Console, filled, find_form, forms_of, links_of, visible_text

NEW = "/settings/api-tokens/new"
LIST = "/settings/api-tokens"

CORPUS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "</title><svg onload=alert(1)>",
    "\u202eevil\u202c",
    "مدرسة الشمال",
)


@pytest.fixture
def owner(console: Console) -> Console:
    """Browser of an owner of the tenant `default`."""
    console.sign_in("owner")
    return console


def generate(console: Console, **fields: object) -> tuple[str, ApiToken]:
    """Generate a token in the browser. Return its value from the page, and its stored form."""
    page = console.submit(NEW, action=LIST, **{"label": "Reading app", **fields})  # type: ignore[arg-type]  # fields vary
    value = re.search(r'id="secret-value"[^>]*>([^<]+)<', page.text)
    assert value is not None
    newest = max(console.services.tokens.list(), key=lambda token: token.created)
    return value[1], newest


def api_status(console: Console, token: str, path: str = "/users") -> int:
    client = console.app.test_client()
    return client.get(CHALK + path, headers={"Authorization": f"Bearer {token}"}).status_code


def test_walk_of_the_public_documentation(console: Console) -> None:
    """Sign in, go to /settings/api-tokens, click "Generate token", label it, copy the value; call the API; revoke."""
    console.sign_in("owner", "default")
    page = console.get(LIST)
    [link] = set(re.findall(r'href="([^"]*)"[^>]*>\s*Generate token', page.text))
    form = find_form(console.get(link).text, LIST)
    assert form.buttons == ["Generate token"]
    response = console.post(form.action, {**form.values.to_dict(flat=False), "label": "Reading app"})
    page = console.get(response.headers["Location"])
    value = re.search(r"chk_live_[0-9a-f]{40}", page.text)
    assert value is not None
    assert "It is shown only this once." in page.text
    assert value[0] not in console.get(response.headers["Location"]).text, "it is shown once"
    assert api_status(console, value[0]) == 200
    console.submit(response.headers["Location"], action=response.headers["Location"] + "/revoke")
    assert api_status(console, value[0]) == 401


def test_curl_line_is_ready_to_use(owner: Console) -> None:
    value, _ = generate(owner)
    page = owner.submit(NEW, action=LIST, label="second").text
    command = re.search(r'id="secret-curl"[^>]*><code>([^<]*)</code>', page)
    assert command is not None
    line = html.unescape(command[1])
    assert re.fullmatch(
        rf"curl -H 'Authorization: Bearer chk_live_[0-9a-f]{{40}}' 'http://localhost{CHALK}/schools\?limit=10'", line
    )
    assert value not in line


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("demographics", rf"curl -H '\S+ \S+ \S+' 'http://localhost{CHALK}/demographics\?limit=10'"),
        ("imports", r"curl --fail-with-body -H '\S+ \S+ \S+' --data-binary @district.zip 'http://\S+/imports'"),
        ("gradebook-write", None),
    ],
)
def test_curl_line_uses_a_path_that_the_token_can_use(scope: str, expected: str | None, owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, label="x", scopes=[scope]).text
    command = re.search(r'id="secret-curl"[^>]*><code>([^<]*)</code>', page)
    if expected is None:
        assert command is None
    else:
        assert command is not None
        assert re.fullmatch(expected, html.unescape(command[1]))


def test_token_that_imports_cannot_be_restricted(owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, status=422, label="x", scopes=["imports"], redacted=["email"])
    assert "The scope imports.write requires a credential without access restrictions" in visible_text(page.text)
    assert not owner.services.tokens.list()


def test_new_token_has_the_defaults_of_the_command_line(owner: Console) -> None:
    _, token = generate(owner)
    assert token.scopes == DEFAULT
    assert token.tenant == "default"
    assert not token.restrictions.to_dict()
    assert token.expires is not None
    assert timedelta(89) < token.expires - utc_now() <= timedelta(90)


def test_choices_are_stored(owner: Console) -> None:
    _, token = generate(
        owner,
        scopes=["roster", "gradebook-write", "demographics"],
        expiry="never",
        schools=["s-1"],
        other_orgs="d-1\n\n",
        grades=["09", "10"],
        classes="c-1",
        redacted=["email", "metadata.*"],
        other_fields="phone, sms",
        denied=["results"],
    )
    assert token.scopes == {ROSTER, ROSTER_CORE, GRADEBOOK_WRITE, DEMOGRAPHICS}
    assert token.expires is None
    assert token.restrictions.to_dict() == {
        "orgs": ["d-1", "s-1"],
        "grades": ["09", "10"],
        "classes": ["c-1"],
        "denied": ["results"],
        "redacted": ["email", "metadata.*", "phone", "sms"],
    }
    page = visible_text(owner.get(f"{LIST}/{token.id}").text)
    assert "Create and change grades" in page
    assert "Only students of the grades 09, 10" in page


def test_last_day_is_the_expiry(owner: Console) -> None:
    day = (utc_now() + timedelta(days=5)).date()
    _, token = generate(owner, expiry="date", expiry_date=day.isoformat())
    assert token.expires is not None
    assert (token.expires - timedelta(seconds=1)).date() == day


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": ""}, "Enter a label."),
        ({"label": "x" * 201}, "200"),
        ({"label": "two\x0blines"}, "printable characters"),
        ({"scopes": None}, "Choose at least one."),
        ({"scopes": ["everything"]}, "Unknown choice"),
        ({"expiry": "date", "expiry_date": "2020-01-01"}, "Choose a day from today on."),
        ({"expiry": "date", "expiry_date": "9999-12-31"}, "Choose a day from today on."),
        ({"expiry": "date", "expiry_date": "soon"}, "valid date"),
        ({"expiry": "date"}, "Choose a day from today on."),
        ({"expiry": "1000000000000"}, "Not a valid choice"),
        ({"schools": ["s-99"]}, "Unknown choice"),
        ({"other_orgs": "s-99"}, "There is no record with the id"),
        ({"classes": "\n".join(f"c-{n}" for n in range(101))}, "Enter at most 100 ids."),
        ({"other_fields": "shoeSize"}, "unknown field"),
        ({"other_fields": "sourcedId"}, "cannot be redacted"),
        ({"grades": ["99"]}, "Unknown choice"),
    ],
)
def test_invalid_choice_is_explained_and_kept(fields: dict[str, object], message: str, owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, status=422, **{"label": "kept label", **fields})  # type: ignore[arg-type]  # fields vary
    assert message.lower() in html.unescape(page.text).lower()
    assert "Nothing was changed." in page.text
    assert owner.services.tokens.list() == []
    if "label" not in fields:
        assert 'value="kept label"' in page.text


def test_demographics_are_offered_with_a_warning(console: Console) -> None:
    TenantStore(console.services.store).create("private")
    console.sign_in("owner", "private")
    page = console.get(NEW).text
    assert "Demographics are the most sensitive data of students" in page
    assert "The tenant has not opted in to demographics" in page
    console.sign_in("owner", "default")
    assert "has not opted in" not in console.get(NEW).text


def test_schools_are_offered_by_name(owner: Console) -> None:
    page = owner.get(NEW).text
    assert "school s-1 (s-1)" in page
    assert "district d-1" not in page


@pytest.mark.parametrize("label", CORPUS)
def test_label_is_text_on_every_page(label: str, owner: Console) -> None:
    if not label.isprintable():
        assert "printable" in owner.submit(NEW, action=LIST, label=label, status=422).text
        return
    _, token = generate(owner, label=label)
    assert token.label == label
    for path in (LIST, f"{LIST}/{token.id}", f"{LIST}/{token.id}/access"):
        page = owner.get(path).text
        assert escape(label) in page
        assert not re.search(r"<script(?![^>]* src=)|<img|<svg onload|>49<", page)
    page = owner.submit(f"{LIST}/{token.id}", action=f"{LIST}/{token.id}/revoke").text
    assert "<script>alert" not in page


def test_list_shows_prefix_and_states_and_no_value(owner: Console) -> None:
    value, token = generate(owner)
    _, soon = owner.services.tokens.create("soon", DEFAULT, expires=utc_now() + timedelta(days=2))
    _, ended = owner.services.tokens.create("ended", DEFAULT, expires=utc_now() - timedelta(days=2))
    page = owner.get(LIST).text
    assert (token.prefix or "-") in page
    assert value not in page
    assert "Expires soon" in page
    assert ended.label not in visible_text(page)
    everything = visible_text(owner.get(LIST, show="all").text)
    assert "Expired" in everything
    assert soon.label in everything


def test_empty_list_says_what_to_do(owner: Console) -> None:
    page = visible_text(owner.get(LIST).text)
    assert "No API tokens" in page
    assert "Generate token" in page


def test_long_list_has_pages(owner: Console) -> None:
    for number in range(53):
        owner.services.tokens.create(f"token {number}", DEFAULT)
    page = owner.get(LIST)
    assert "1–50 of 53 tokens" in visible_text(page.text)
    [following] = [link for link in links_of(page.text) if "offset=50" in link]
    assert "51–53 of 53 tokens" in visible_text(owner.get(following).text)
    for invalid in ("-1", "x", "9" * 30, "50'"):
        owner.get(LIST, offset=invalid)


def test_tokens_of_another_tenant_are_unknown(console: Console) -> None:
    _, token = console.services.tokens.create("of default", DEFAULT)
    console.sign_in("owner", "west")
    assert "of default" not in console.get(LIST, show="all").text
    for path in (f"{LIST}/{token.id}", f"{LIST}/{token.id}/access"):
        console.get(path, 404)
    form = find_form(console.get(NEW).text, LIST)
    for action in ("revoke", "rotate"):
        console.post(f"{LIST}/{token.id}/{action}", {**form.values, "overlap": "0"}, 404)
    assert console.services.tokens.list()[0].revoked is None


def test_viewer_sees_tokens_and_cannot_change_them(console: Console) -> None:
    _, token = console.services.tokens.create("app", DEFAULT)
    console.sign_in("viewer")
    assert "Generate token" not in visible_text(console.get(LIST).text)
    page = console.get(f"{LIST}/{token.id}").text
    assert "Revoke" not in visible_text(page)
    assert {form.action for form in forms_of(page)} == {"/logout", "/theme"}


def test_token_is_rotated_and_the_new_value_shown_once(owner: Console) -> None:
    value, token = generate(owner)
    page = owner.submit(f"{LIST}/{token.id}", action=f"{LIST}/{token.id}/rotate", overlap="0")
    new = re.search(r"chk_live_[0-9a-f]{40}", page.text)
    assert new is not None
    assert api_status(owner, new[0]) == 200
    assert api_status(owner, value) == 401
    assert "The former one is revoked." in page.text


def test_ended_token_cannot_be_rotated(owner: Console) -> None:
    _, token = generate(owner)
    form = find_form(owner.get(f"{LIST}/{token.id}").text, f"{LIST}/{token.id}/rotate")
    owner.services.tokens.revoke(token.id)
    page = owner.post(form.action, {**form.values, "overlap": "0"}, 409)
    assert "is revoked: create another one" in page.text
    owner.post(form.action, {**form.values, "submission": "", "overlap": "-5"}, 409)
    assert len(owner.services.tokens.list()) == 1


def test_form_sent_twice_creates_one_token(owner: Console) -> None:
    form = find_form(owner.get(NEW).text, LIST)
    data = {**form.values.to_dict(flat=False), "label": "once"}
    first, second = owner.post(LIST, data), owner.post(LIST, data)
    assert first.headers["Location"] == second.headers["Location"]
    assert len(owner.services.tokens.list()) == 1


def test_rejected_form_can_be_sent_again(owner: Console) -> None:
    form = find_form(owner.get(NEW).text, LIST)
    data = form.values.to_dict(flat=False)
    owner.post(LIST, {**data, "label": ""}, 422)
    owner.post(LIST, {**data, "label": "corrected"})
    assert [token.label for token in owner.services.tokens.list()] == ["corrected"]


def test_revoking_twice_changes_nothing(owner: Console) -> None:
    _, token = generate(owner)
    form = find_form(owner.get(f"{LIST}/{token.id}").text, f"{LIST}/{token.id}/revoke")
    owner.post(form.action, form.values.to_dict())
    revoked = owner.services.tokens.list()[0].revoked
    owner.post(form.action, {**form.values, "submission": ""})
    assert owner.services.tokens.list()[0].revoked == revoked


def test_page_counts_what_the_token_sees(owner: Console) -> None:
    _, token = generate(owner, scopes=["roster"], schools=["s-1"], redacted=["email"])
    page = owner.get(f"{LIST}/{token.id}/access")
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>\s*<td class="numeric">(?:<span[^>]*>)?([^<]+)<', page.text))
    assert rows["classes"] == "2"
    assert rows["results"] == "no access"
    assert rows["demographics"] == "no access"


def test_preview_is_the_response_to_the_token(owner: Console) -> None:
    value, token = generate(owner, scopes=["roster"], schools=["s-1"], redacted=["email"])
    page = owner.get(f"{LIST}/{token.id}/access", collection="users").text
    shown = html.unescape(page.partition('id="preview-json"')[2].partition("</code>")[0])
    response = owner.app.test_client().get(f"{IMS}/users?limit=5", headers={"Authorization": f"Bearer {value}"})
    assert response.json is not None
    assert [f'"sourcedId": "{user["sourcedId"]}"' in shown for user in response.json["users"]].count(False) == 0
    assert "north.example" not in shown
    assert "u-3" not in shown


def test_preview_has_no_demographics_and_no_unknown_collections(owner: Console) -> None:
    _, token = generate(owner, scopes=["roster", "demographics"])
    page = owner.get(f"{LIST}/{token.id}/access").text
    assert "collection=demographics" not in page
    for name in ("demographics", "nope", "../users"):
        owner.get(f"{LIST}/{token.id}/access", 404, collection=name)


def test_preview_of_a_revoked_token_says_so(owner: Console) -> None:
    _, token = generate(owner)
    owner.services.tokens.revoke(token.id)
    assert "The token is revoked: the API rejects it." in owner.get(f"{LIST}/{token.id}/access").text


def test_message_names_a_few_unknown_schools(owner: Console) -> None:
    page = owner.get("/settings/api-tokens/new").text
    data = filled(find_form(page, "/settings/api-tokens"), {"label": "x"})
    data.setlist("schools", [f"unknown-{number}-{'x' * 300}" for number in range(2000)])
    rejected = owner.post("/settings/api-tokens", data, 422)
    assert "and 1,995 more" in visible_text(rejected.text)
    assert len(rejected.data) < 60_000


def test_many_unknown_schools_cost_few_reads(empty_app: Flask, tmp_path: Path) -> None:
    console = Console(empty_app)
    console.sign_in("owner")
    schools = [f"s-{number}" for number in range(3000)]
    form = find_form(console.get(NEW).text, LIST)
    console.post(LIST, {**form.values.to_dict(), "label": "x", "scopes": ["roster"], "schools": schools}, 422)
    console.services.access_log.close()
    lines = [line for path in (tmp_path / "data" / "reads").iterdir() for line in path.read_bytes().splitlines()]
    assert len(lines) < 300
