"""PUT and DELETE of gradebook records: ids, scopes, responses and rejected requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask import Flask

from backends import Backend
from chalk_flask.api.routes import WRITE_ROUTES
from chalk_flask.audit.events import read_events
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, GRADEBOOK, GRADEBOOK_DELETE, GRADEBOOK_WRITE, ROSTER
from tests.api.writes.conftest import LINE_ITEM, PAYLOADS, RESULT, Tool
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, create_token, error_message, items
from tests.support.paths import DATA

OPERATIONS = json.loads((DATA / "operations.json").read_text())["operations"]
ROOTS = (IMS, CHALK, f"{IMS}/sis", f"{CHALK}/sis")


@pytest.mark.reading("A-22")
@pytest.mark.parametrize(
    "character", ["\0", "\t", "\n", "\x1f", "\x7f", "\x85", "\ufdd0", "\ufffe", "\uffff", "\U0010ffff"]
)
@pytest.mark.parametrize("path", list(PAYLOADS))
def test_id_with_a_control_character_or_a_noncharacter_is_rejected(tool: Tool, path: str, character: str) -> None:
    response = tool.send(f"{path}/{quote(f'a{character}b', safe='')}", PAYLOADS[path])
    assert "sourcedId" in error_message(response, 422, "invalid_data", "invalid data")
    assert tool.get(f"{path}/a%2Fb").status_code == 404


@pytest.mark.reading("A-22")
@pytest.mark.parametrize("key", [" a", "a ", "a\xa0", "a\u200bb", "NULL", "#REF!"])
def test_new_id_that_a_package_cannot_contain_is_rejected(tool: Tool, key: str) -> None:
    response = tool.send(f"/lineItems/{quote(key, safe='')}", PAYLOADS["/lineItems"])
    assert "sourcedId" in error_message(response, 422, "invalid_data", "invalid data")
    assert tool.get(f"/lineItems/{quote(key, safe='')}").status_code == 404


@pytest.mark.reading("A-22")
def test_reference_with_a_control_character_is_rejected(tool: Tool) -> None:
    payload = {"lineItem": PAYLOADS["/lineItems"]["lineItem"] | {"class": {"sourcedId": "c-1\n"}}}
    response = tool.send("/lineItems/new", payload)
    assert "control character" in error_message(response, 422, "invalid_data", "invalid data")


@pytest.mark.reading("A-21")
def test_writes_are_the_operations_of_the_standard() -> None:
    ours = {
        (w.operation, w.method, w.path, w.scope, w.resource_type.singular_name if w.method == "PUT" else None)
        for w in WRITE_ROUTES
    }
    theirs = {
        (o["operationId"], o["method"], o["path"], o["scope"], o["requestEnvelope"])
        for o in OPERATIONS
        if o["method"] != "GET"
    }
    assert len(WRITE_ROUTES) == len(theirs) == 6
    assert ours == theirs


@pytest.mark.reading("W-02", "W-13")
@pytest.mark.every_backend
@pytest.mark.parametrize("path", PAYLOADS)
@pytest.mark.parametrize("root", ROOTS)
def test_put_creates_or_replaces_and_delete_deletes(tool: Tool, root: str, path: str) -> None:
    root_url, key = f"http://localhost{root.removesuffix('/sis')}", "new/é 1"
    path_with_id = f"{path}/new%2F%C3%A9%201"
    created = tool.send(root + path_with_id, PAYLOADS[path])
    assert created.status_code == 201
    assert created.content_type == "application/json"
    assert created.headers["Location"] == root_url + path_with_id
    replaced = tool.send(root + path_with_id, PAYLOADS[path])
    assert (replaced.status_code, replaced.json) == (200, created.json)
    assert "Location" not in replaced.headers
    read = tool.get(root + path_with_id)
    assert read.json == created.json
    [record] = created.json.values() if created.json else []
    assert record["sourcedId"] == key
    references = [value for value in record.values() if isinstance(value, dict)]
    assert all(
        reference["href"].startswith(root_url) and set(reference) == {"href", "sourcedId", "type"}
        for reference in references
    )
    deleted = tool.delete(root + path_with_id)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    error_message(tool.get(root + path_with_id), 404, "unknown_object", "unknown object")
    error_message(tool.delete(root + path_with_id), 404, "unknown_object", "unknown object")
    assert tool.send(root + path_with_id, PAYLOADS[path]).status_code == 201


@pytest.mark.reading("N-07")
@pytest.mark.parametrize("root", ROOTS)
def test_lineitems_alias_writes_line_items(tool: Tool, root: str) -> None:
    created = tool.send(f"{root}/lineitems/i-1", PAYLOADS["/lineItems"])
    assert created.status_code == 201
    assert created.headers["Location"] == f"http://localhost{root.removesuffix('/sis')}/lineItems/i-1"
    assert tool.send(f"{root}/lineitems", PAYLOADS["/lineItems"]).status_code == 201
    assert tool.get(f"{root}/lineItems/i-1").json == created.json
    assert tool.delete(f"{root}/lineitems/i-1").status_code == 204


@pytest.mark.reading("W-02")
@pytest.mark.parametrize("path", PAYLOADS)
def test_put_without_an_id_gets_a_new_id(tool: Tool, path: str) -> None:
    responses = [tool.send(path, PAYLOADS[path]) for _ in range(2)]
    keys = []
    for response in responses:
        assert response.status_code == 201
        assert response.json is not None
        [record] = response.json.values()
        keys.append(str(uuid.UUID(record["sourcedId"])))
        assert response.headers["Location"] == f"http://localhost{IMS}{path}/{keys[-1]}"
    assert set(keys) <= set(tool.ids(path))
    assert len(set(keys)) == 2


@pytest.mark.reading("W-02")
def test_put_without_a_path_id_takes_the_id_of_the_body(tool: Tool) -> None:
    payload = {"category": {"title": "Quiz", "sourcedId": "mine"}}
    assert [tool.send("/categories", payload).status_code for _ in range(2)] == [201, 200]
    assert tool.get("/categories/mine").status_code == 200


@pytest.mark.reading("W-02")
@pytest.mark.parametrize("key", ["other", "", 5, ["x"], "X"])
def test_different_or_invalid_id_in_the_body_is_rejected(tool: Tool, key: object) -> None:
    response = tool.send("/categories/x", {"category": {"title": "Quiz", "sourcedId": key}})
    assert "sourcedId" in error_message(response, 400, "invalid_data", "invalid data")
    error_message(tool.send("/categories/%FF", PAYLOADS["/categories"]), 400, "invalid_data", "invalid data")
    error_message(tool.send(f"/categories/{'x' * 256}", PAYLOADS["/categories"]), 422, "invalid_data", "invalid data")


@pytest.mark.reading("A-19", "W-03", "W-07")
def test_references_need_only_an_id_and_are_returned_in_full(tool: Tool) -> None:
    response = tool.send("/lineItems/i", {"lineItem": LINE_ITEM})
    assert response.json is not None
    line_item = response.json["lineItem"]
    assert line_item["category"] == {
        "href": f"http://localhost{IMS}/categories/uncategorized",
        "sourcedId": "uncategorized",
        "type": "category",
    }
    assert line_item["gradingPeriod"]["sourcedId"] == "g-2"
    assert tool.get("/categories/uncategorized").json == {
        "category": {
            "sourcedId": "uncategorized",
            "status": "active",
            "dateLastModified": line_item["dateLastModified"],
            "title": "Uncategorized",
        }
    }
    for score in (80, 300, 87.5, -1):
        assert tool.send("/results/r", {"result": {**RESULT, "score": score}}).status_code in (200, 201)
        assert b'"score":%s,' % json.dumps(score).encode() in tool.get("/results/r").data


def test_long_title_is_stored(tool: Tool) -> None:
    title = "Äbc \U0001f600" * 2000
    assert tool.send("/lineItems/i", {"lineItem": {**LINE_ITEM, "title": title}}).status_code == 201
    response = tool.get("/lineItems/i")
    assert response.json is not None
    assert response.json["lineItem"]["title"] == title


@pytest.mark.reading("W-04")
@pytest.mark.parametrize(
    ("path", "payload", "member"),
    [
        ("/lineItems/i", {"lineItem": {**LINE_ITEM, "class": {"sourcedId": "none"}}}, "class"),
        ("/lineItems/i", {"lineItem": {**LINE_ITEM, "category": {"sourcedId": "cat-5"}}}, "category"),
        ("/lineItems/i", {"lineItem": {**LINE_ITEM, "gradingPeriod": {"sourcedId": "none"}}}, "gradingPeriod"),
        ("/lineItems/i", {"lineItem": {**LINE_ITEM, "resultValueMin": 100.5}}, "resultValueMin"),
        ("/lineItems", {"lineItem": {"title": "x"}}, "dueDate"),
        ("/results/r", {"result": {**RESULT, "lineItem": {"sourcedId": "l-3"}}}, "lineItem"),
        ("/results/r", {"result": {**RESULT, "student": {"sourcedId": "u-8"}}}, "student"),
        ("/results/r", {"result": {**RESULT, "student": {"sourcedId": "u-1", "type": "org"}}}, "student"),
        ("/results/r", {"result": {**RESULT, "score": "NaN"}}, "score"),
        ("/results/r", {"result": {**RESULT, "scoreStatus": "done"}}, "scoreStatus"),
    ],
)
def test_invalid_payload_is_422(tool: Tool, path: str, payload: object, member: str) -> None:
    assert member in error_message(tool.send(path, payload), 422, "invalid_data", "invalid data")


@pytest.mark.reading("W-09")
def test_category_in_use_is_not_deleted(tool: Tool) -> None:
    message = error_message(tool.delete("/categories/cat-1"), 422, "invalid_data", "invalid data")
    assert "line items use the category" in message
    assert tool.delete("/categories/cat-4").status_code == 204


@pytest.mark.reading("A-04", "W-09")
def test_deleted_records_are_listed_only_if_selected(tool: Tool) -> None:
    assert tool.delete("/lineItems/l-1").status_code == 204
    assert tool.ids("/results") == ["x-3"]
    assert tool.ids("/classes/c-1/lineItems") == ["l-4"]
    assert tool.ids("/results?filter=status='tobedeleted'") == ["x-1", "x-2", "x-4", "x-5"]
    [deleted_item] = items(tool.get("/lineItems?filter=status='tobedeleted' AND sourcedId='l-1'"))
    since = tool.ids(f"/results?filter=dateLastModified>='{deleted_item['dateLastModified']}'")
    assert since == ["x-1", "x-2"]


@pytest.mark.reading("Q-18", "W-01")
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_each_gradebook_scope_opens_its_own_method(serve: Callable[..., Flask], root: str) -> None:
    app = serve()
    writer, deleter = (Tool(app, create_token(app, (scope,))) for scope in (GRADEBOOK_WRITE, GRADEBOOK_DELETE))
    for path, payload in PAYLOADS.items():
        for scope, response in (
            (GRADEBOOK_WRITE, deleter.send(f"{root}{path}/new", payload)),
            (GRADEBOOK_WRITE, deleter.send(root + path, b"{")),
            (GRADEBOOK_DELETE, writer.delete(f"{root}{path}/new")),
        ):
            error_message(response, 403, "forbidden", "forbidden")
            assert response.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
        assert writer.send(f"{root}{path}/new", payload).status_code == 201
        assert writer.get(f"{root}{path}/new").status_code == 403
        assert deleter.delete(f"{root}{path}/new").status_code == 204


@pytest.mark.reading("Q-18", "W-01", "W-09")
@pytest.mark.parametrize("root", [IMS, CHALK])
@pytest.mark.parametrize("status", ["tobedeleted", "inactive"])
@pytest.mark.parametrize("path", ["/lineItems/l-1", "/results/x-1", "/categories/cat-3"])
def test_put_that_deletes_requires_the_scope_of_delete(filled: Flask, root: str, status: str, path: str) -> None:
    writer = Tool(filled, create_token(filled, (GRADEBOOK, GRADEBOOK_WRITE)))
    collection, _, key = path.rpartition("/")
    [(envelope, record)] = (writer.get(root + path).json or {}).items()
    before = {name: writer.get(name).json for name in PAYLOADS}
    deletion = {envelope: {**record, "status": status}}
    unknown = {envelope: {**record, "sourcedId": "none", "status": status}}
    for response in (
        writer.send(root + path, deletion),
        writer.send(root + collection, deletion),
        writer.send(f"{root}{collection}/none", unknown),
    ):
        message = error_message(response, 403, "forbidden", "forbidden")
        assert message == "The bearer token does not have the required scope: gradebook.delete."
        challenge = f'Bearer error="insufficient_scope", scope="{GRADEBOOK_DELETE}"'
        assert response.headers["WWW-Authenticate"] == challenge
    assert {name: writer.get(name).json for name in PAYLOADS} == before
    assert writer.send(root + path, {envelope: record}).status_code == 200
    if collection != "/categories":
        both = Tool(filled, create_token(filled, (GRADEBOOK_WRITE, GRADEBOOK_DELETE)))
        assert both.send(root + path, deletion).status_code == 200
        assert writer.get(path).status_code == 404
        assert key not in writer.ids(collection)
        assert writer.send(root + path, {envelope: record}).status_code == 201


@pytest.mark.reading("W-06")
def test_score_status_in_place_of_a_status_requires_no_scope_of_delete(filled: Flask) -> None:
    writer = Tool(filled, create_token(filled, (GRADEBOOK, GRADEBOOK_WRITE)))
    for status in ("fully graded", "active", "", None):
        assert writer.send("/results/x-1", {"result": {**RESULT, "status": status}}).status_code == 200


@pytest.mark.reading("W-01")
@pytest.mark.parametrize("scopes", [(GRADEBOOK,), (ROSTER, GRADEBOOK)])
def test_chalks_root_is_read_only_without_a_write_scope(serve: Callable[..., Flask], scopes: tuple[str, ...]) -> None:
    app = serve()
    reader = Tool(app, create_token(app, scopes))
    for path, payload in PAYLOADS.items():
        for response in (
            reader.send(f"{CHALK}{path}/x", payload),
            reader.send(CHALK + path, payload),
            reader.delete(f"{CHALK}/sis{path}/x"),
        ):
            error_message(response, 405, "invalid_data", "invalid data")
            assert response.headers["Allow"] == "GET, HEAD"
        error_message(reader.send(f"{IMS}{path}/x", payload), 403, "forbidden", "forbidden")
        error_message(reader.delete(f"{IMS}{path}/x"), 403, "forbidden", "forbidden")


@pytest.mark.reading("Q-18")
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_write_without_a_token_is_401(serve: Callable[..., Flask], root: str) -> None:
    client = serve().test_client()
    for path in PAYLOADS:
        for response in (
            client.put(f"{root}{path}/x", data=b"{"),
            client.put(root + path),
            client.delete(f"{root}{path}/x"),
        ):
            error_message(response, 401, "invalid_token", "unauthorized")


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_other_methods_of_write_routes_are_405(tool: Tool, root: str, method: str) -> None:
    for path in PAYLOADS:
        response = tool.send(root + path, PAYLOADS[path], method)
        error_message(response, 405, "invalid_data", "invalid data")
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT"}
        response = tool.send(f"{root}{path}/x", PAYLOADS[path], method)
        error_message(response, 405, "invalid_data", "invalid data")
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
    error_message(tool.delete(f"{root}/lineItems"), 405, "invalid_data", "invalid data")
    error_message(tool.send(f"{root}/users/u-1", {"user": {}}), 405, "invalid_data", "invalid data")


def restricted_tool(app: Flask, **restrictions: frozenset[str]) -> Tool:
    """Return a tool whose token has restrictions."""
    token, _ = services_of(app).tokens.create("restricted_tool", ALL, restrictions=AccessRestrictions(**restrictions))
    assert token is not None
    return Tool(app, token)


@pytest.mark.reading("W-04", "W-08")
def test_restricted_tool_writes_only_visible_records(filled: Flask) -> None:
    tool = restricted_tool(filled, orgs=frozenset({"s-2"}))
    unknown = error_message(
        tool.send("/lineItems/i", {"lineItem": {**LINE_ITEM, "class": {"sourcedId": "none"}}}), 422, *INVALID
    )
    unseen = error_message(tool.send("/lineItems/i", {"lineItem": LINE_ITEM}), 422, *INVALID)
    assert unseen == unknown.replace("none", "c-1")
    assert tool.send("/lineItems/i", {"lineItem": {**LINE_ITEM, "class": {"sourcedId": "c-3"}}}).status_code == 201
    for student, status in (("u-1", 422), ("u-3", 201)):
        payload = {**RESULT, "lineItem": {"sourcedId": "i"}, "student": {"sourcedId": student}}
        assert tool.send("/results/r", {"result": payload}).status_code == status
    before = Tool(filled).get("/lineItems/l-1").json
    for response in (
        tool.delete("/lineItems/l-1"),
        tool.delete("/results/x-1"),
        tool.send("/lineItems/l-1", {"lineItem": {**LINE_ITEM, "class": {"sourcedId": "c-3"}}}),
    ):
        error_message(response, 404, "unknown_object", "unknown object")
    assert Tool(filled).get("/lineItems/l-1").json == before


INVALID = ("invalid_data", "invalid data")


@pytest.mark.reading("W-08")
def test_response_to_a_restricted_tool_is_redacted(filled: Flask) -> None:
    tool = restricted_tool(filled, denied=frozenset({"academicSessions"}), redacted=frozenset({"description"}))
    response = tool.send("/lineItems/i", {"lineItem": {**LINE_ITEM, "description": "secret"}})
    assert response.status_code == 201
    assert response.json is not None
    assert not {"gradingPeriod", "description"} & response.json["lineItem"].keys()
    assert response.json == tool.get("/lineItems/i").json
    tool = restricted_tool(filled, denied=frozenset({"categories"}))
    error_message(tool.send("/categories/new", PAYLOADS["/categories"]), 404, "unknown_object", "unknown object")
    error_message(tool.delete("/categories/cat-4"), 404, "unknown_object", "unknown object")


def test_committed_write_is_in_the_audit_log(filled: Flask) -> None:
    tool = Tool(filled)
    tool.send("/lineItems/i", {"lineItem": LINE_ITEM})
    tool.send("/lineItems/i", {"lineItem": {}})
    tool.delete("/lineItems/i")
    tool.delete("/lineItems/i")
    events = [
        event for event in read_events(services_of(filled).store, "default") if event["event"].startswith("gradebook")
    ]
    assert [(event["event"], event["collection"], event["record"], event["way"]) for event in events] == [
        ("gradebook.put", "lineItems", "i", "token"),
        ("gradebook.deleted", "lineItems", "i", "token"),
    ]
    assert len({event["by"] for event in events}) == 1


@pytest.mark.every_backend
def test_write_to_a_busy_store_is_503(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.roster.gradebook.writes.LOCK_TIMEOUT_SECONDS", 0.01)
    store: Backend = services_of(tool.app).store
    with store.write("default"):
        response = tool.send("/categories/x", PAYLOADS["/categories"])
    error_message(response, 503, "server_busy", "server_busy")
    assert response.headers["Retry-After"]
