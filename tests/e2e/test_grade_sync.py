"""Grade tools over HTTP: the requests of Google's grade sync, and many tools at once, on a SQLite store."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import url_in
from tests.e2e.conftest import DEMO, Response, RunningService, run_command, serve

pytestmark = [pytest.mark.slow, pytest.mark.on_backend("sqlite")]

ROOT = "/ims/oneroster/v1p1"
SCOPES = ("roster.readonly", "gradebook.readonly", "gradebook.createput", "gradebook.delete")
TEACHER = "moconnell@chalkvalley.example"
CLIENT_COUNT, RESULTS_PER_CLIENT = 8, 63
"""At least 500 results in total."""


class GradeTool:
    """Grade tool with one persistent connection."""

    def __init__(self, served: RunningService) -> None:
        self._headers = {"Authorization": f"Bearer {served.token}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)

    def request(self, path: str, method: str = "GET", body: object = None) -> Response:
        """Send a request with an optional JSON body and return the response."""
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        payload = None if body is None else json.dumps(body)
        target = path if path.startswith("/ims") else ROOT + path
        self._connection.request(method, target, body=payload, headers=headers)
        response = self._connection.getresponse()
        return Response(response.status, response.headers, response.read())

    def find(self, path: str, condition: str = "") -> list[dict[str, Any]]:
        """Return the records of a collection that match a filter."""
        response = self.request(f"{path}?limit=10000" + (f"&filter={quote(condition)}" if condition else ""))
        assert response.status == 200, response.body
        return response.records

    def put(self, path: str, name: str, record: dict[str, Any], status: int) -> dict[str, Any]:
        """Put a record, check the status, and return the record in the response.

        It is sent again while others hold the lock for too long, which happens on a busy machine.
        """
        for _ in range(20):
            response = self.request(path, "PUT", {name: record})
            if response.status != 503:
                break
        assert response.status == status, response.body
        stored: dict[str, Any] = response.json[name]
        return stored

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@pytest.fixture(scope="module")
def served(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Server with the sample district, and a token with the scopes of a grade tool."""
    folder = tmp_path_factory.mktemp("grades")
    storage = ("--storage", url_in(folder, backend))
    run_command(folder, "import", DEMO, *storage)
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    token = run_command(folder, "token", "create", "--label", "grade sync", *scopes, "--json", *storage)
    with serve(folder, json.loads(token)["token"], *storage) as service:
        yield service
    assert json.loads(run_command(folder, "check", "--json", *storage))["ok"]


@pytest.fixture
def tool(served: RunningService) -> Iterator[GradeTool]:
    with closing(GradeTool(served)) as opened:
        yield opened


def line_item(class_id: str) -> dict[str, Any]:
    """Return a line item as the grade sync sends it: without category and grading period, references by id only."""
    return {
        "title": "Essay on limits",
        "assignDate": "2026-09-01T00:00:00.000Z",
        "dueDate": "2026-09-10T23:59:59.000Z",
        "class": {"sourcedId": class_id},
        "resultValueMin": 0,
        "resultValueMax": 100,
    }


def new_result(item: str, student: str, score: float | None, status: str = "fully graded") -> dict[str, Any]:
    """Return a result as the grade sync sends it."""
    return {
        "lineItem": {"sourcedId": item},
        "student": {"sourcedId": student},
        "score": score,
        "scoreStatus": status,
        "scoreDate": "2026-09-11T08:00:00.000Z",
        "comment": "",
    }


def class_of_teacher(tool: GradeTool) -> str:
    """Return the id of the first active class of a teacher found by e-mail address."""
    [teacher] = tool.find("/teachers", f"email='{TEACHER}'")
    classes = tool.find(f"/teachers/{teacher['sourcedId']}/classes", "status='active'")
    assert classes
    key: str = classes[0]["sourcedId"]
    return key


@pytest.mark.reading("A-04", "A-19", "W-03", "W-07", "W-09")
def test_grade_sync_creates_updates_and_deletes(tool: GradeTool) -> None:
    class_id = class_of_teacher(tool)
    students = tool.find(f"/classes/{class_id}/students")
    assert len(students) >= 3
    assert all(student["email"] for student in students)
    before = {each["sourcedId"] for each in tool.find(f"/classes/{class_id}/lineItems")}

    item = str(uuid.uuid4())
    made = tool.put(f"/lineItems/{item}", "lineItem", line_item(class_id), 201)
    assert (made["sourcedId"], made["class"]["sourcedId"], made["status"]) == (item, class_id, "active")
    assert tool.request(f"/categories/{made['category']['sourcedId']}").json["category"]["title"] == "Uncategorized"
    assert made["gradingPeriod"]["type"] == "academicSession"
    renamed = tool.put(f"/lineItems/{item}", "lineItem", {**line_item(class_id), "title": "Essay"}, 200)
    assert renamed["dateLastModified"] > made["dateLastModified"]
    assert {each["sourcedId"] for each in tool.find(f"/classes/{class_id}/lineItems")} == before | {item}

    sent = {
        str(uuid.uuid4()): new_result(item, student["sourcedId"], score, status)
        for student, score, status in zip(
            students, (80, 300, None), ("fully graded", "partially graded", "exempt"), strict=False
        )
    }
    for key, result in sent.items():
        tool.put(f"/results/{key}", "result", result, 201)
    found = {each["sourcedId"]: each for each in tool.find(f"/classes/{class_id}/lineItems/{item}/results")}
    assert found.keys() == sent.keys()
    assert [found[key].get("score") for key in sent] == [80, 300, None]
    assert all("comment" not in each for each in found.values())
    first, *others = sent
    tool.put(f"/results/{first}", "result", {**sent[first], "score": 87.5, "comment": "Better"}, 200)
    edited = tool.request(f"/results/{first}").json["result"]
    assert (edited["score"], edited["comment"]) == (87.5, "Better")

    assert tool.request(f"/results/{first}", "DELETE").status == 204
    assert tool.request(f"/results/{first}").status == tool.request(f"/results/{first}", "DELETE").status == 404
    deleted = tool.request(f"/lineItems/{item}", "DELETE")
    assert (deleted.status, deleted.body) == (204, b"")
    assert tool.request(f"/lineItems/{item}").status == 404
    assert {each["sourcedId"] for each in tool.find(f"/classes/{class_id}/lineItems")} == before
    assert not sent.keys() & {each["sourcedId"] for each in tool.find(f"/classes/{class_id}/results")}
    deleted_results = tool.find("/results", "status='tobedeleted'")
    assert {each["sourcedId"] for each in deleted_results} >= {first, *others}
    assert item in {each["sourcedId"] for each in tool.find("/lineItems", "status='tobedeleted'")}
    since = renamed["dateLastModified"]
    assert {each["sourcedId"] for each in tool.find("/lineItems", f"dateLastModified>'{since}'")} == {item}


def test_concurrent_grade_tools_lose_no_write(served: RunningService, tool: GradeTool) -> None:
    class_id = class_of_teacher(tool)
    student = tool.find(f"/classes/{class_id}/students")[0]["sourcedId"]
    item = str(uuid.uuid4())
    tool.put(f"/lineItems/{item}", "lineItem", line_item(class_id), 201)
    responses: list[tuple[str, float]] = []

    def put_results(client: int) -> None:
        with closing(GradeTool(served)) as other:
            for turn in range(RESULTS_PER_CLIENT):
                key = f"{item}-{client}-{turn}"
                made = other.put(f"/results/{key}", "result", new_result(item, student, client + turn / 100), 201)
                responses.append((made["sourcedId"], made["score"]))

    tools = [threading.Thread(target=put_results, args=(client,)) for client in range(CLIENT_COUNT)]
    for each in tools:
        each.start()
    for each in tools:
        each.join(120)
    assert len(responses) == CLIENT_COUNT * RESULTS_PER_CLIENT >= 500
    stored = tool.find(f"/classes/{class_id}/lineItems/{item}/results")
    assert sorted((each["sourcedId"], each["score"]) for each in stored) == sorted(responses)
    assert len({each["dateLastModified"] for each in stored}) == len(stored)
    assert tool.request(f"/lineItems/{item}", "DELETE").status == 204
    assert tool.find(f"/classes/{class_id}/results", f"lineItem='{item}'") == []


@pytest.mark.reading("W-12")
@pytest.mark.parametrize("length", [b"Content-Length: 104857600", b"Transfer-Encoding: chunked"])
def test_oversized_body_is_rejected_before_it_is_sent(served: RunningService, length: bytes) -> None:
    head = b"PUT %b/results/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), 30) as connection:
        connection.sendall(head % (ROOT.encode(), served.token.encode(), length))
        if b"chunked" in length:
            connection.sendall(b"200000\r\n" + b" " * 0x200000 + b"\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read())
    assert response.status == 413
    assert (body["error"], body["statusInfoSet"][0]["imsx_codeMinor"]) == ("invalid_data", "invalid data")
