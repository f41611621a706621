"""API explorer: every operation, sent as the administrator or as a token of the tenant."""

from __future__ import annotations

import html
from typing import Any

import orjson
import pytest

from chalk_flask.api.routes import READ_ROUTES, WRITE_ROUTES
from chalk_flask.audit.events import read_events
from chalk_flask.console.pages.explorer.views import MAX_RECORDS
from chalk_flask.openapi.operations import OPERATIONS
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, DEFAULT
from chalk_flask.tenants.store import TenantStore
from tests.support.console.client import Console, find_form, links_of, visible_text

IDS = {
    "id": "x",
    "school_id": "s-1",
    "class_id": "c-1",
    "term_id": "t-1",
    "course_id": "k-1",
    "student_id": "u-1",
    "teacher_id": "u-4",
    "user_id": "u-1",
    "li_id": "l-1",
}
SCORE = {"result": {"lineItem": {"sourcedId": "l-1"}, "student": {"sourcedId": "u-1"}, "scoreStatus": "exempt"}}


@pytest.fixture
def owner(console: Console) -> Console:
    """Browser of an owner of the tenant `default`."""
    console.sign_in("owner")
    return console


def send(console: Console, operation: str, *, status: int = 200, **fields: Any) -> str:
    """Send the form of an operation, and return the page with the response."""
    path = f"/explorer/{operation}"
    return console.submit(path, action=f"{path}#response", status=status, **fields).text


def token(console: Console, scopes: Any = DEFAULT, tenant: str = "default", **options: Any) -> str:
    """Create a token and return its id."""
    return console.services.tokens.create("app", scopes, tenant, **options)[1].id


def result_of(console: Console) -> dict[str, Any]:
    """Return the stored result x-1."""
    with console.services.store.read("default") as snapshot:
        found: dict[str, Any] = orjson.loads(snapshot.get_many("results", ["x-1"])["x-1"])
    return found


def test_list_contains_every_route_of_the_tables(owner: Console) -> None:
    page = owner.get("/explorer")
    routes = {route.operation for route in (*READ_ROUTES, *WRITE_ROUTES)} | {"getChanges"}
    assert OPERATIONS.keys() == routes
    assert {f"/explorer/{name}" for name in routes} <= set(links_of(page.text))
    owner.get("/explorer/unknown", 404)


def test_every_read_can_be_sent(owner: Console) -> None:
    for name, operation in OPERATIONS.items():
        if not operation.is_write:
            ids: Any = {one.name: IDS[one.name] for one in operation.parameters if one.is_in_path}
            text = visible_text(send(owner, name, **ids))
            is_demographics = "Demographics" in name
            expected = "Status 403" if is_demographics else "Status 404" if ids == {"id": "x"} else "Status 200"
            assert expected in text, name


def test_response_shows_status_headers_and_body(owner: Console) -> None:
    text = send(owner, "getAllUsers", limit="2", filter="role='student'", fields="familyName")
    assert '"familyName": "O\'Brien"' in html.unescape(text)
    assert "X-Total-Count 4" in visible_text(text)
    assert "users?limit=2&filter=role%3D%27student%27&fields=familyName" in html.unescape(text)
    form = find_form(text, "/explorer/getAllUsers#response")
    assert form.values["filter"] == "role='student'"


def test_error_of_the_api_is_shown(owner: Console) -> None:
    text = visible_text(send(owner, "getAllUsers", filter="shoeSize='42'"))
    assert "Status 400" in text
    assert "Unknown filter field: shoeSize" in text


def test_token_sees_what_it_may_see(owner: Console) -> None:
    limited = token(owner, restrictions=AccessRestrictions(orgs=frozenset({"s-2"})))
    assert "X-Total-Count 5" in visible_text(send(owner, "getAllOrgs", limit="10"))
    assert "X-Total-Count 5" not in visible_text(send(owner, "getAllOrgs", limit="10", token=limited))


def test_tokens_of_other_tenants_and_revoked_ones_are_not_offered(owner: Console) -> None:
    revoked, foreign = token(owner), token(owner, tenant="west")
    owner.services.tokens.revoke(revoked)
    page = owner.get("/explorer/getAllUsers")
    assert revoked not in page.text
    assert foreign not in page.text
    send(owner, "getAllUsers", token=foreign, status=404)


def test_number_of_records_is_bounded(owner: Console) -> None:
    assert f"limit={MAX_RECORDS}" in send(owner, "getAllUsers", limit="999999", root="/api/oneroster/v1p1")
    text = html.unescape(send(owner, "getAllUsers", limit="", root="/api/oneroster/v1p1"))
    assert "/api/oneroster/v1p1/users?limit=10" in text
    assert "limit must be" in visible_text(send(owner, "getAllUsers", limit="many"))


def test_missing_id_sends_nothing(owner: Console) -> None:
    assert "id is missing" in visible_text(send(owner, "getUser", id=" ", status=422))


def test_write_needs_a_confirmation(owner: Console) -> None:
    writer = token(owner, ALL)
    text = send(owner, "deleteResult", id="x-1", token=writer, status=422)
    assert "Confirm it first" in visible_text(text)
    assert result_of(owner)["status"] == "active"
    text = send(owner, "deleteResult", id="x-1", token=writer, confirmed="yes")
    assert "Status 204" in visible_text(text)
    assert result_of(owner)["status"] == "tobedeleted"


def test_write_sends_its_body(owner: Console) -> None:
    body = orjson.dumps({"result": {**SCORE["result"], "scoreDate": "2024-01-01"}}).decode()
    text = send(owner, "putResult", id="x-1", token=token(owner, ALL), confirmed="yes", body=body)
    assert "Status 20" in visible_text(text)
    assert result_of(owner)["scoreStatus"] == "exempt"
    assert "-X PUT" in html.unescape(text)


def test_write_as_oneself_is_rejected_by_the_api(owner: Console) -> None:
    assert "Status 403" in visible_text(send(owner, "deleteResult", id="x-1", confirmed="yes"))


def test_only_owners_can_write(console: Console) -> None:
    writer = token(console, ALL)
    console.sign_in("editor")
    page = console.get("/explorer/deleteResult")
    assert "Only owners can send requests" in visible_text(page.text)
    fields = {**find_form(page.text, "/explorer/deleteResult#response").values, "id": "x-1", "token": writer}
    console.post("/explorer/deleteResult", {**fields, "confirmed": "yes"}, 403)
    assert result_of(console)["status"] == "active"


def test_view_of_demographics_is_recorded(console: Console) -> None:
    TenantStore(console.services.store).update("default", demographics=True)
    reader = token(console, ALL)
    console.sign_in("viewer")
    assert "2009-05-14" not in send(console, "getAllDemographics", token=reader)
    assert "2009-05-14" not in send(console, "getChanges", token=reader)
    console.sign_in("editor")
    assert "2009-05-14" in send(console, "getDemographics", id="u-1", token=reader)
    assert [
        (event["operation"], event["record"])
        for event in read_events(console.services.store, "default")
        if event["event"] == "demographics.viewed"
    ] == [("getDemographics", "u-1")]


def test_long_body_is_cut(owner: Console) -> None:
    text = send(owner, "getAllEnrollments", limit=str(MAX_RECORDS))
    assert len(text) < 40_000


def test_audit_event_of_demographics_has_a_short_id(owner: Console) -> None:
    send(owner, "getDemographics", token=token(owner, ALL), id="x" * 3000)
    [event] = [each for each in read_events(owner.services.store, "default") if each["event"] == "demographics.viewed"]
    assert event["record"] == "x" * 255
