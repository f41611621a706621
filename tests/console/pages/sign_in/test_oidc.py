"""Pages of the sign-in with an identity provider: redirect, response, problems, and sessions that end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.console.pages.sign_in.oidc import CALLBACK_PATH, MAX_PENDING
from chalk_flask.settings import SettingsError
from tests.conftest import services_of
from tests.support.console.client import PASSWORD, Console, fill_console_store, find_form, links_of, visible_text
from tests.support.oidc.fake_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY,
    TOKEN,
    Answer,
    FakeProvider,
    serve_fake_provider,
)

BEGIN = "/login/oidc"
ACCESS = "groups:ops=*:owner, groups:staff=default:viewer"
HTML = {"Accept": "text/html"}


_addresses = (f"192.0.2.{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[FakeProvider]:
    with serve_fake_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: FakeProvider) -> FakeProvider:
    shared_provider.reset()
    return shared_provider


def settings_of(provider: FakeProvider, **changes: str) -> dict[str, str]:
    settings = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_access": ACCESS,
        "oidc_label": "School account",
    }
    return settings | changes


@pytest.fixture(scope="module")
def shared_oidc_app(shared_provider: FakeProvider) -> Iterator[Flask]:
    app = create_app(storage="memory:", **settings_of(shared_provider))
    yield app
    services_of(app).store.close()


@pytest.fixture
def browser(shared_oidc_app: Flask, provider: FakeProvider) -> Console:
    """Browser with an address of its own, because attempts are counted by address."""
    fill_console_store(shared_oidc_app)
    return new_browser(shared_oidc_app)


@pytest.fixture
def new_oidc_app(provider: FakeProvider) -> Iterator[Flask]:
    """Application that knows nothing of its provider yet."""
    app = create_app(storage="memory:", **settings_of(provider))
    yield app
    services_of(app).store.close()


def new_browser(app: Flask) -> Console:
    console = Console(app)
    console.client.environ_base["REMOTE_ADDR"] = next(_addresses)
    return console


def begin(browser: Console, path: str = "") -> str:
    """Follow the button of the sign-in page, and return the URL at the provider."""
    [link] = [link for link in links_of(browser.get("/login", next=path or None).text) if link.startswith(BEGIN)]
    response = browser.get(link, 303)
    return response.headers["Location"]


def respond(browser: Console, params: dict[str, str], status: int = 303) -> TestResponse:
    """Open the page to which the provider redirects the browser."""
    headers = {**HTML, "Sec-Fetch-Site": "cross-site"}
    response = browser.client.get(CALLBACK_PATH, query_string=params, headers=headers)
    assert response.status_code == status, visible_text(response.text)[:500]
    return response


def sign_in(browser: Console, provider: FakeProvider, status: int = 303, **claims: Any) -> TestResponse:
    return respond(browser, provider.approve(begin(browser), **claims), status)


def session_id(browser: Console) -> str:
    cookie = browser.client.get_cookie("chalk-session")
    return cookie.value if cookie else ""


def is_signed_in(browser: Console) -> bool:
    return browser.client.get("/account", headers=HTML).status_code == 200


def test_button_leads_to_the_provider_and_back_to_the_page(browser: Console, provider: FakeProvider) -> None:
    assert "Sign in with School account" in visible_text(browser.get("/login").text)
    url = begin(browser, "/imports?state=held")
    assert parse_qs(urlsplit(url).query)["redirect_uri"] == [f"http://localhost{CALLBACK_PATH}"]
    response = respond(browser, provider.approve(url, groups=["ops"]))
    assert response.headers["Location"] == "/imports?state=held"
    page = visible_text(browser.get("/account").text)
    assert "You sign in with School account" in page
    assert "Current password" not in page


def test_role_and_tenant_of_the_rule_apply(browser: Console, provider: FakeProvider) -> None:
    sign_in(browser, provider, groups=["staff"])
    browser.get("/roster")
    browser.get("/settings", 403)
    sign_in_again = new_browser(browser.app)
    sign_in(sign_in_again, provider, groups=["ops"])
    sign_in_again.get("/tenants")


def test_sign_in_page_has_no_button_without_a_provider(console: Console) -> None:
    assert BEGIN not in console.get("/login").text
    console.get(BEGIN, 404)
    console.get(CALLBACK_PATH, 404)


def test_sign_in_begins_a_session_with_a_new_id(browser: Console, provider: FakeProvider) -> None:
    browser.client.set_cookie("chalk-session", "1" * 32)  # planted by an attacker
    sign_in(browser, provider, groups=["ops"])
    assert session_id(browser) not in ("", "1" * 32)
    assert is_signed_in(browser)


def test_response_during_another_session_changes_nothing(browser: Console, provider: FakeProvider) -> None:
    url = begin(browser)
    browser.sign_in("viewer")  # in another window meanwhile
    former = session_id(browser)
    assert respond(browser, provider.approve(url, groups=["ops"])).headers["Location"] == "/"
    assert session_id(browser) == former
    assert TOKEN not in provider.paths()


def test_response_works_once(browser: Console, provider: FakeProvider) -> None:
    params = provider.approve(begin(browser), groups=["ops"])
    before = browser.client.get_cookie("chalk-page")
    assert before is not None
    respond(browser, params)
    assert respond(browser, params).headers["Location"] == "/"  # the back button, while signed in
    thief = Console(browser.app)
    thief.client.set_cookie("chalk-page", before.value)
    for attacker in (thief, Console(browser.app)):
        page = respond(attacker, params, 400)
        assert "out of date or was already completed" in visible_text(page.text)
        assert not is_signed_in(attacker)
    assert provider.paths().count(TOKEN) == 1


def test_response_to_the_sign_in_of_another_browser_is_rejected(browser: Console, provider: FakeProvider) -> None:
    other = Console(browser.app)
    params = provider.approve(begin(other), groups=["ops"])
    begin(browser)
    respond(browser, params, 400)
    assert not is_signed_in(browser)
    assert TOKEN not in provider.paths()


def test_sign_ins_of_several_windows_do_not_disturb_each_other(browser: Console, provider: FakeProvider) -> None:
    urls = [begin(browser) for _ in range(MAX_PENDING + 1)]
    respond(browser, provider.approve(urls[0], groups=["ops"]), 400)  # the oldest one is forgotten
    respond(browser, provider.approve(urls[1], groups=["ops"]))
    assert is_signed_in(browser)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_link_of_another_site_begins_no_sign_in(site: str, browser: Console) -> None:
    response = browser.client.get(f"{BEGIN}?next=/imports", headers={**HTML, "Sec-Fetch-Site": site})
    assert (response.status_code, response.headers["Location"]) == (303, "/login?next=/imports")


@pytest.mark.parametrize("target", ["//other.example", "https://other.example", "/\\other.example", "/" + "x" * 900])
def test_sign_in_never_leads_to_another_site(target: str, browser: Console, provider: FakeProvider) -> None:
    response = browser.client.get(BEGIN, query_string={"next": target}, headers=HTML)
    params = provider.approve(response.headers["Location"], groups=["ops"])
    assert respond(browser, params).headers["Location"] == "/"


def forge(provider: FakeProvider) -> None:
    provider.token = provider.make_token(sub="user-2").rsplit(".", 1)[0] + ".c2lnbmF0dXJl"


PROVIDER_PROBLEMS: dict[str, Callable[[FakeProvider], object]] = {
    "expired": lambda provider: provider.claims.update(exp=1),
    "audience": lambda provider: provider.claims.update(aud="other"),
    "nonce": lambda provider: provider.claims.update(nonce="other"),
    "forged": forge,
    "no-tokens": lambda provider: provider.answers.update({TOKEN: Answer({})}),
    "html": lambda provider: provider.answers.update({TOKEN: Answer(b"<html>")}),
    "down": lambda provider: provider.answers.update({TOKEN: Answer({}, 503)}),
    "huge": lambda provider: provider.answers.update({TOKEN: Answer(b"x" * 2_000_000)}),
}


@pytest.mark.parametrize("problem", PROVIDER_PROBLEMS.values(), ids=PROVIDER_PROBLEMS)
def test_wrong_response_is_a_page_that_offers_another_attempt(
    problem: Callable[[FakeProvider], object], browser: Console, provider: FakeProvider
) -> None:
    params = provider.approve(begin(browser, "/imports"), groups=["ops"])
    problem(provider)
    page = respond(browser, params, 400)
    assert "Sign-in with School account does not work now" in visible_text(page.text)
    assert f"{BEGIN}?next=/imports" in list(links_of(page.text))
    assert "password" in find_form(page.text, "/login?next=/imports").names
    assert session_id(browser) == ""


def test_provider_that_is_down_leaves_sign_in_with_a_password(new_oidc_app: Flask, provider: FakeProvider) -> None:
    browser = new_browser(new_oidc_app)
    provider.answers[DISCOVERY] = Answer({}, 500)
    page = browser.get(BEGIN, 400)
    assert "does not work now" in visible_text(page.text)
    services_of(browser.app).administrators.create("kim", "owner", "default", PASSWORD)
    browser.submit("/login", action="/login", name="kim", password=PASSWORD)
    assert is_signed_in(browser)


def test_canceled_sign_in_is_explained_without_the_text_of_the_url(browser: Console, provider: FakeProvider) -> None:
    params = provider.approve(begin(browser)) | {"error": "access_denied", "error_description": "<b>call 555</b>"}
    page = respond(browser, params, 400)
    assert "You did not sign in with School account." in visible_text(page.text)
    assert "call 555" not in page.text


def test_account_without_access_sees_its_id(browser: Console, provider: FakeProvider) -> None:
    page = sign_in(browser, provider, 403, sub="<b>user</b>", groups=["guests"])
    assert "has no access to this console" in visible_text(page.text)
    assert "&lt;b&gt;user&lt;/b&gt;" in page.text
    assert not is_signed_in(browser)


@pytest.mark.parametrize("query", ["", "state=", "state=x&state=y", "code=x", "state=%00%ff", "error=access_denied"])
def test_response_without_a_begun_sign_in_is_a_page(query: str, browser: Console) -> None:
    response = browser.client.get(f"{CALLBACK_PATH}?{query}", headers=HTML)
    assert response.status_code == 400
    assert "out of date" in visible_text(response.text)


def test_many_attempts_are_told_to_wait(browser: Console, provider: FakeProvider) -> None:
    for _ in range(20):
        sign_in(browser, provider, 403, groups=["guests"])
    page = sign_in(browser, provider, 429, groups=["ops"])
    assert int(page.headers["Retry-After"]) > 0
    assert "Too many attempts" in visible_text(page.text)


def test_external_administrator_is_shown_to_owners(browser: Console, provider: FakeProvider) -> None:
    sign_in(browser, provider, groups=["staff"], email="a@example.org", email_verified=True)
    browser.client.delete_cookie("chalk-session")
    browser.sign_in("owner", "default")
    page = browser.get("/settings/administrators")
    assert "a@example.org" in page.text
    assert "Identity provider" in visible_text(page.text)
    [path] = [link for link in links_of(page.text) if re.fullmatch(r"/settings/administrators/[0-9a-f]{32}", link)]
    own = browser.get(path)
    assert provider.issuer in visible_text(own.text)
    assert "New password" not in own.text
    form = find_form(own.text, f"{path}/delete").values.to_dict()
    assert "identity provider" in browser.post(f"{path}/role", {**form, "role": "owner"}, 409).text
    fresh = find_form(browser.get(path).text, f"{path}/delete").values.to_dict()
    assert "identity provider" in browser.post(f"{path}/reset", fresh, 409).text
    assert "is deleted" in visible_text(browser.submit(path, action=f"{path}/delete").text)


def test_external_administrator_cannot_set_a_password(browser: Console, provider: FakeProvider) -> None:
    sign_in(browser, provider, groups=["ops"])
    browser.get("/account/two-factor", 409)
    form = find_form(browser.get("/account").text, "/account/sessions/end").values.to_dict()
    for path in ("/account/password", "/account/two-factor"):
        fields = {**form, "password": PASSWORD, "repeated": PASSWORD, "current_password": "x", "code": "123456"}
        browser.post(path, {**fields, "submission": ""}, 409)


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_access": "groups:staff=default:viewer"},
        {"oidc_domains": "example.org"},
        {"oidc_client_id": "other"},
        dict.fromkeys(("oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_access", "oidc_label"), ""),
    ],
    ids=["access", "domains", "client", "removed"],
)
@pytest.mark.on_backend("json")
def test_changed_settings_end_the_sessions(changes: dict[str, str], storage: str, provider: FakeProvider) -> None:
    app = create_app(storage=storage, **settings_of(provider))
    browser = Console(app)
    local = Console(app)
    local.sign_in("owner")
    sign_in(browser, provider, groups=["ops"])
    assert is_signed_in(browser)
    services_of(app).sessions.close()
    services_of(app).store.close()
    restarted = create_app(storage=storage, **settings_of(provider, **changes))
    for former in (browser, local):
        client = Console(restarted)
        client.client.set_cookie("chalk-session", session_id(former))
        assert is_signed_in(client) is (former is local)
        assert bool(services_of(restarted).sessions.find(session_id(former))) is (former is local)
    services_of(restarted).store.close()


@pytest.mark.parametrize("missing", ["oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_access"])
def test_missing_setting_is_named(missing: str, provider: FakeProvider) -> None:
    with pytest.raises(SettingsError, match=f"requires {missing}") as caught:
        create_app(storage="memory:", **settings_of(provider, **{missing: ""}))
    assert CLIENT_SECRET not in str(caught.value)


def test_client_secret_is_shown_nowhere(browser: Console) -> None:
    browser.sign_in("owner", None)
    page = browser.get("/settings").text
    assert "oidc_client_secret" in page
    assert CLIENT_SECRET not in page
    assert CLIENT_SECRET[:8] not in browser.get("/about").text + repr(browser.services.settings)
