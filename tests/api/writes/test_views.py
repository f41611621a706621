"""PUT and DELETE of the gradebook over HTTP: who may, what is answered, what is refused (digest 7)."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from backends import Backend
from chalk_flask.api.routes import WRITES
from chalk_flask.api.writes.json_body import MAX_BODY_BYTES, MAX_DEPTH
from chalk_flask.audit.events import read_events
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, GRADEBOOK, GRADEBOOK_DELETE, GRADEBOOK_WRITE, ROSTER
from chalk_flask.roster.verify.checker import check_store
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, create_token, error_message, items
from tests.support.paths import DATA
from tests.support.small_roster import fill

OPERATIONS = json.loads((DATA / "operations.json").read_text())["operations"]
ROOTS = (IMS, CHALK, f"{IMS}/sis", f"{CHALK}/sis")

ITEM = {
    "title": "Essay",
    "assignDate": "2023-10-02T08:00:00.000Z",
    "dueDate": "2023-10-09T08:00:00.000Z",
    "class": {"sourcedId": "c-1"},
    "resultValueMin": 0,
    "resultValueMax": 100,
}
RESULT = {
    "lineItem": {"sourcedId": "l-1"},
    "student": {"sourcedId": "u-1"},
    "scoreStatus": "fully graded",
    "score": 80,
    "scoreDate": "2023-10-10T00:00:00.000Z",
    "comment": "",
}
SENT: dict[str, dict[str, Any]] = {
    "/lineItems": {"lineItem": ITEM},
    "/results": {"result": RESULT},
    "/categories": {"category": {"title": "Quiz"}},
}


class Tool(Consumer):
    """A consumer that writes."""

    def send(self, path: str, body: object, method: str = "PUT", kind: str = "application/json") -> TestResponse:
        """The answer to a request with a body: bytes as they are, anything else as JSON."""
        whole = path if path.startswith((IMS, CHALK)) else IMS + path
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.client.open(whole, method=method, data=data, content_type=kind, headers=headers)

    def delete(self, path: str) -> TestResponse:
        """The answer to a DELETE."""
        return self.get(path, method="DELETE")


@pytest.fixture
def filled(app: Flask) -> Iterator[Flask]:
    """An application with the small roster, once for every backend."""
    store = services_of(app).store
    fill(store)
    problems = check_store(store).problems
    yield app
    assert check_store(store).problems == problems


@pytest.fixture
def tool(filled: Flask) -> Tool:
    return Tool(filled)


@pytest.fixture
def quick(serve: Callable[..., Flask]) -> Tool:
    """A tool before one store in memory."""
    return Tool(serve())


@pytest.mark.reading("A-21")
def test_writes_are_the_operations_of_the_standard() -> None:
    ours = {
        (w.operation, w.method, w.path, w.scope, w.resource_type.singular_name if w.method == "PUT" else None)
        for w in WRITES
    }
    theirs = {
        (o["operationId"], o["method"], o["path"], o["scope"], o["requestEnvelope"])
        for o in OPERATIONS
        if o["method"] != "GET"
    }
    assert len(WRITES) == len(theirs) == 6
    assert ours == theirs


@pytest.mark.reading("W-02", "W-13")
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("path", SENT)
def test_put_creates_or_replaces_and_delete_deletes(quick: Tool, root: str, path: str) -> None:
    site, key = f"http://localhost{root.removesuffix('/sis')}", "new/é 1"
    place = f"{path}/new%2F%C3%A9%201"
    created = quick.send(root + place, SENT[path])
    assert created.status_code == 201
    assert created.content_type == "application/json"
    assert created.headers["Location"] == site + place
    replaced = quick.send(root + place, SENT[path])
    assert (replaced.status_code, replaced.json) == (200, created.json)
    assert "Location" not in replaced.headers
    read = quick.get(root + place)
    assert read.json == created.json
    [record] = created.json.values() if created.json else []
    assert record["sourcedId"] == key
    references = [value for value in record.values() if isinstance(value, dict)]
    assert all(each["href"].startswith(site) and set(each) == {"href", "sourcedId", "type"} for each in references)
    deleted = quick.delete(root + place)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    error_message(quick.get(root + place), 404, "unknown_object", "unknown object")
    error_message(quick.delete(root + place), 404, "unknown_object", "unknown object")
    assert quick.send(root + place, SENT[path]).status_code == 201


@pytest.mark.reading("W-02")
@pytest.mark.parametrize("path", SENT)
def test_put_without_an_id_gets_a_new_id(tool: Tool, path: str) -> None:
    made = [tool.send(path, SENT[path]) for _ in range(2)]
    keys = []
    for answer in made:
        assert answer.status_code == 201
        assert answer.json is not None
        [record] = answer.json.values()
        keys.append(str(uuid.UUID(record["sourcedId"])))
        assert answer.headers["Location"] == f"http://localhost{IMS}{path}/{keys[-1]}"
    assert set(keys) <= set(tool.ids(path))
    assert len(set(keys)) == 2


@pytest.mark.reading("W-02")
def test_put_without_a_path_id_takes_the_id_of_the_body(quick: Tool) -> None:
    sent = {"category": {"title": "Quiz", "sourcedId": "mine"}}
    assert [quick.send("/categories", sent).status_code for _ in range(2)] == [201, 200]
    assert quick.get("/categories/mine").status_code == 200


@pytest.mark.reading("W-02")
@pytest.mark.parametrize("key", ["other", "", 5, ["x"], "X"])
def test_different_or_invalid_id_in_the_body_is_rejected(quick: Tool, key: object) -> None:
    answer = quick.send("/categories/x", {"category": {"title": "Quiz", "sourcedId": key}})
    assert "sourcedId" in error_message(answer, 400, "invalid_data", "invalid data")
    error_message(quick.send("/categories/%FF", SENT["/categories"]), 400, "invalid_data", "invalid data")
    error_message(quick.send(f"/categories/{'x' * 256}", SENT["/categories"]), 422, "invalid_data", "invalid data")


@pytest.mark.reading("A-19", "W-03", "W-07")
def test_references_need_only_an_id_and_are_returned_in_full(tool: Tool) -> None:
    answer = tool.send("/lineItems/i", {"lineItem": ITEM})
    assert answer.json is not None
    found = answer.json["lineItem"]
    assert found["category"] == {
        "href": f"http://localhost{IMS}/categories/uncategorized",
        "sourcedId": "uncategorized",
        "type": "category",
    }
    assert found["gradingPeriod"]["sourcedId"] == "g-2"
    assert tool.get("/categories/uncategorized").json == {
        "category": {
            "sourcedId": "uncategorized",
            "status": "active",
            "dateLastModified": found["dateLastModified"],
            "title": "Uncategorized",
        }
    }
    for score in (80, 300, 87.5, -1):
        assert tool.send("/results/r", {"result": {**RESULT, "score": score}}).status_code in (200, 201)
        assert b'"score":%s,' % json.dumps(score).encode() in tool.get("/results/r").data


def test_long_title_is_stored(tool: Tool) -> None:
    title = "Äbc \U0001f600" * 2000
    assert tool.send("/lineItems/i", {"lineItem": {**ITEM, "title": title}}).status_code == 201
    answer = tool.get("/lineItems/i")
    assert answer.json is not None
    assert answer.json["lineItem"]["title"] == title


@pytest.mark.reading("W-04")
@pytest.mark.parametrize(
    ("path", "sent", "named"),
    [
        ("/lineItems/i", {"lineItem": {**ITEM, "class": {"sourcedId": "none"}}}, "class"),
        ("/lineItems/i", {"lineItem": {**ITEM, "category": {"sourcedId": "cat-5"}}}, "category"),
        ("/lineItems/i", {"lineItem": {**ITEM, "gradingPeriod": {"sourcedId": "none"}}}, "gradingPeriod"),
        ("/lineItems/i", {"lineItem": {**ITEM, "resultValueMin": 100.5}}, "resultValueMin"),
        ("/lineItems", {"lineItem": {"title": "x"}}, "dueDate"),
        ("/results/r", {"result": {**RESULT, "lineItem": {"sourcedId": "l-3"}}}, "lineItem"),
        ("/results/r", {"result": {**RESULT, "student": {"sourcedId": "u-8"}}}, "student"),
        ("/results/r", {"result": {**RESULT, "student": {"sourcedId": "u-1", "type": "org"}}}, "student"),
        ("/results/r", {"result": {**RESULT, "score": "NaN"}}, "score"),
        ("/results/r", {"result": {**RESULT, "scoreStatus": "done"}}, "scoreStatus"),
    ],
)
def test_invalid_payload_is_422(quick: Tool, path: str, sent: object, named: str) -> None:
    assert named in error_message(quick.send(path, sent), 422, "invalid_data", "invalid data")


@pytest.mark.reading("W-09")
def test_category_in_use_is_not_deleted(quick: Tool) -> None:
    assert "in use" in error_message(quick.delete("/categories/cat-1"), 422, "invalid_data", "invalid data")
    assert quick.delete("/categories/cat-4").status_code == 204


@pytest.mark.reading("A-04", "W-09")
def test_deleted_records_are_listed_only_if_selected(tool: Tool) -> None:
    assert tool.delete("/lineItems/l-1").status_code == 204
    assert tool.ids("/results") == ["x-3"]
    assert tool.ids("/classes/c-1/lineItems") == ["l-4"]
    assert tool.ids("/results?filter=status='tobedeleted'") == ["x-1", "x-2", "x-4", "x-5"]
    [gone] = items(tool.get("/lineItems?filter=status='tobedeleted' AND sourcedId='l-1'"))
    since = tool.ids(f"/results?filter=dateLastModified>='{gone['dateLastModified']}'")
    assert since == ["x-1", "x-2"]


DEEP = b'{"category": {"title": "x", "metadata": %s%s}}'


@pytest.mark.reading("W-12")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"title=Quiz", "not JSON"),
        (b'{"category": {"title": "Quiz"}', "not JSON"),
        (b'{"category": {"title": NaN}}', "not JSON"),
        (b'{"category": {"title": "x", "metadata": {"a": -Infinity}}}', "not JSON"),
        (b'{"category": {"title": "x", "metadata": {"a": 1e999}}}', "not JSON"),
        (b'{"category": {"title": "\xff"}}', "not JSON"),
        (b'{"category": {"title": "\\ud800"}}', "not JSON"),
        ('{"category": {"title": "Quiz"}}'.encode("utf-16"), "not JSON"),
        (b'\xef\xbb\xbf{"category": {"title": "Quiz"}}', "not JSON"),
        (b'{"category": {"title": "Quiz", "title": "Other"}}', "twice"),
        (b'{"category": {"title": "x"}, "category": {"title": "y"}}', "twice"),
        (b'{"category": {"title": "x", "metadata": {"a": {"b": 1, "b": 1}}}}', "twice"),
        (b'{"category": {"title": "x", "metadata": {"a\\u0000": 1}}}', "NUL"),
        (b'{"category": {"title": "\\u0000"}}', "NUL"),
        (b'{"title": "Quiz"}', "envelope"),
        (b'{"lineItem": {"title": "Quiz"}}', "envelope"),
        (b'{"category": [{"title": "Quiz"}]}', "envelope"),
        (b'{"category": null}', "envelope"),
        (b'[{"category": {"title": "Quiz"}}]', "envelope"),
        (b"null", "envelope"),
        (b"0", "envelope"),
        (DEEP % (b'{"a":' * MAX_DEPTH, b"1" + b"}" * MAX_DEPTH), "nested"),
        (DEEP % (b"[" * 900, b"]" * 900), "nested"),
        (DEEP % (b"[" * 100_000, b"]" * 100_000), "not JSON"),
        (b"[" * 500_000, "not JSON"),
        (b'{"category": {"a": %s%s, "a": 1}}' % (b"[" * 1000, b"]" * 1000), ""),
    ],
)
def test_invalid_body_is_rejected(quick: Tool, body: bytes, said: str) -> None:
    for path in ("/categories/x", "/categories"):
        assert said in error_message(quick.send(path, body), 400, "invalid_data", "invalid data")
    assert quick.get("/categories/x").status_code == 404


@pytest.mark.reading("W-12")
def test_metadata_of_maximum_depth_is_stored(tool: Tool) -> None:
    deep = MAX_DEPTH - 3
    body = DEEP % (b'{"a":' * deep, b"1" + b"}" * deep)
    assert tool.send("/categories/x", body).status_code == 201
    assert tool.ids(f"/categories?filter=metadata.{'.'.join('a' * deep)}='1'") == ["x"]


@pytest.mark.reading("W-12")
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 100 << 20])
def test_too_large_body_is_not_read(quick: Tool, size: int) -> None:
    headers = {"Authorization": f"Bearer {quick.token}", "Content-Type": "application/json"}
    answer = quick.client.put(f"{IMS}/categories/x", headers=headers, input_stream=Unreadable(size))
    assert "larger" in error_message(answer, 413, "invalid_data", "invalid data")


class Unreadable(io.RawIOBase):
    """A body that nobody should ask for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = self._size + offset if whence == 2 else offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise AssertionError(f"{size} bytes of the body were asked for")


@pytest.mark.reading("W-12")
def test_body_of_maximum_size_is_accepted(quick: Tool) -> None:
    head, tail = b'{"category": {"title": "', b'"}}'
    body = head + b"x" * (MAX_BODY_BYTES - len(head + tail)) + tail
    assert quick.send("/categories/x", body).status_code == 201


@pytest.mark.reading("W-12")
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *(("application/json", 201), ("application/json; charset=utf-8", 201), ("Application/JSON", 201)),
        *(("application/vnd.ims.or.v1p1+json", 201), ("", 201)),
        *(("text/plain", 400), ("application/x-www-form-urlencoded", 400), ("multipart/form-data; boundary=x", 400)),
        *(("application/xml", 400), ("json", 400)),
    ],
)
def test_content_type_is_json_or_absent(quick: Tool, kind: str, status: int) -> None:
    assert quick.send("/categories/x", SENT["/categories"], kind=kind).status_code == status


@pytest.mark.reading("Q-18", "W-01")
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_each_gradebook_scope_opens_its_own_method(serve: Callable[..., Flask], root: str) -> None:
    app = serve()
    writer, eraser = (Tool(app, create_token(app, (scope,))) for scope in (GRADEBOOK_WRITE, GRADEBOOK_DELETE))
    for path, sent in SENT.items():
        for answer in (
            eraser.send(f"{root}{path}/new", sent),
            eraser.send(root + path, b"{"),
            writer.delete(f"{root}{path}/new"),
        ):
            error_message(answer, 403, "forbidden", "forbidden")
            assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'
        assert writer.send(f"{root}{path}/new", sent).status_code == 201
        assert writer.get(f"{root}{path}/new").status_code == 403
        assert eraser.delete(f"{root}{path}/new").status_code == 204


@pytest.mark.reading("W-01")
@pytest.mark.parametrize("scopes", [(GRADEBOOK,), (ROSTER, GRADEBOOK)])
def test_chalks_root_is_read_only_without_a_write_scope(serve: Callable[..., Flask], scopes: tuple[str, ...]) -> None:
    app = serve()
    reader = Tool(app, create_token(app, scopes))
    for path, sent in SENT.items():
        for answer in (
            reader.send(f"{CHALK}{path}/x", sent),
            reader.send(CHALK + path, sent),
            reader.delete(f"{CHALK}/sis{path}/x"),
        ):
            error_message(answer, 405, "invalid_data", "invalid data")
            assert answer.headers["Allow"] == "GET, HEAD"
        error_message(reader.send(f"{IMS}{path}/x", sent), 403, "forbidden", "forbidden")
        error_message(reader.delete(f"{IMS}{path}/x"), 403, "forbidden", "forbidden")


@pytest.mark.reading("Q-18")
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_write_without_a_token_is_401(serve: Callable[..., Flask], root: str) -> None:
    client = serve().test_client()
    for path in SENT:
        for answer in (
            client.put(f"{root}{path}/x", data=b"{"),
            client.put(root + path),
            client.delete(f"{root}{path}/x"),
        ):
            error_message(answer, 401, "invalid_token", "unauthorized")


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("root", [IMS, CHALK])
def test_other_methods_of_write_routes_are_405(quick: Tool, root: str, method: str) -> None:
    for path in SENT:
        answer = quick.send(root + path, SENT[path], method)
        error_message(answer, 405, "invalid_data", "invalid data")
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT"}
        answer = quick.send(f"{root}{path}/x", SENT[path], method)
        error_message(answer, 405, "invalid_data", "invalid data")
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
    error_message(quick.delete(f"{root}/lineItems"), 405, "invalid_data", "invalid data")
    error_message(quick.send(f"{root}/users/u-1", {"user": {}}), 405, "invalid_data", "invalid data")


def limited(app: Flask, **limits: frozenset[str]) -> Tool:
    """A tool whose token has limits."""
    token, _ = services_of(app).tokens.create("limited", ALL, limits=AccessRestrictions(**limits))
    assert token is not None
    return Tool(app, token)


@pytest.mark.reading("W-04", "W-08")
def test_restricted_tool_writes_only_visible_records(filled: Flask) -> None:
    tool = limited(filled, orgs=frozenset({"s-2"}))
    unknown = error_message(
        tool.send("/lineItems/i", {"lineItem": {**ITEM, "class": {"sourcedId": "none"}}}), 422, *BAD
    )
    unseen = error_message(tool.send("/lineItems/i", {"lineItem": ITEM}), 422, *BAD)
    assert unseen == unknown.replace("none", "c-1")
    assert tool.send("/lineItems/i", {"lineItem": {**ITEM, "class": {"sourcedId": "c-3"}}}).status_code == 201
    for student, status in (("u-1", 422), ("u-3", 201)):
        sent = {**RESULT, "lineItem": {"sourcedId": "i"}, "student": {"sourcedId": student}}
        assert tool.send("/results/r", {"result": sent}).status_code == status
    before = Tool(filled).get("/lineItems/l-1").json
    for answer in (
        tool.delete("/lineItems/l-1"),
        tool.delete("/results/x-1"),
        tool.send("/lineItems/l-1", {"lineItem": {**ITEM, "class": {"sourcedId": "c-3"}}}),
    ):
        error_message(answer, 404, "unknown_object", "unknown object")
    assert Tool(filled).get("/lineItems/l-1").json == before


BAD = ("invalid_data", "invalid data")


@pytest.mark.reading("W-08")
def test_response_to_a_restricted_tool_is_redacted(filled: Flask) -> None:
    tool = limited(filled, denied=frozenset({"categories"}), redacted=frozenset({"description"}))
    answer = tool.send("/lineItems/i", {"lineItem": {**ITEM, "description": "secret"}})
    assert answer.status_code == 201
    assert answer.json is not None
    assert not {"category", "description"} & answer.json["lineItem"].keys()
    assert answer.json == tool.get("/lineItems/i").json
    error_message(tool.send("/categories/new", SENT["/categories"]), 404, "unknown_object", "unknown object")
    error_message(tool.delete("/categories/cat-4"), 404, "unknown_object", "unknown object")


def test_committed_write_is_in_the_audit_log(filled: Flask) -> None:
    tool = Tool(filled)
    tool.send("/lineItems/i", {"lineItem": ITEM})
    tool.send("/lineItems/i", {"lineItem": {}})
    tool.delete("/lineItems/i")
    tool.delete("/lineItems/i")
    found = [
        each for each in read_events(services_of(filled).store, "default") if each["event"].startswith("gradebook")
    ]
    assert [(each["event"], each["collection"], each["record"], each["way"]) for each in found] == [
        ("gradebook.put", "lineItems", "i", "token"),
        ("gradebook.deleted", "lineItems", "i", "token"),
    ]
    assert len({each["by"] for each in found}) == 1


def test_write_to_a_busy_store_is_503(quick: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.roster.gradebook.writes.LOCK_TIMEOUT_SECONDS", 0.01)
    store: Backend = services_of(quick.app).store
    with store.write("default"):
        answer = quick.send("/categories/x", SENT["/categories"])
    error_message(answer, 503, "server_busy", "server_busy")
    assert answer.headers["Retry-After"]
