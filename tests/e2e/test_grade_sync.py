"""A grade tool over HTTP: the sequence that Google's grade sync performs, and many tools at once (digest 7, 10.2)."""

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

ROOT = "/ims/oneroster/v1p1"
SCOPES = ("roster.readonly", "gradebook.readonly", "gradebook.createput", "gradebook.delete")
TEACHER = "moconnell@chalkvalley.example"
CLIENT_COUNT, RESULTS_PER_CLIENT = 8, 63
"""At least 500 results in all."""


class GradeTool:
    """A grade tool with one connection that stays open."""

    def __init__(self, served: RunningService) -> None:
        self._headers = {"Authorization": f"Bearer {served.token}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)

    def request(self, path: str, method: str = "GET", body: object = None) -> Response:
        """The answer to a request, with a JSON body if one is given."""
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        sent = None if body is None else json.dumps(body)
        target = path if path.startswith("/ims") else ROOT + path
        self._connection.request(method, target, body=sent, headers=headers)
        answer = self._connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())

    def find(self, path: str, text: str = "") -> list[dict[str, Any]]:
        """What a collection holds, filtered."""
        answer = self.request(f"{path}?limit=10000" + (f"&filter={quote(text)}" if text else ""))
        assert answer.status == 200, answer.body
        return answer.records

    def put(self, path: str, name: str, record: dict[str, Any], status: int) -> dict[str, Any]:
        """Put a record and be answered with it."""
        answer = self.request(path, "PUT", {name: record})
        assert answer.status == status, answer.body
        found: dict[str, Any] = answer.json[name]
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


@pytest.fixture(scope="module")
def served(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The sample district behind a server, on every backend, and a token with four scopes; in memory one with all."""
    folder = tmp_path_factory.mktemp("grades")
    storage = ("--storage", url_in(folder, backend))
    if backend == "memory":
        with serve(folder, "", *storage, "--import", DEMO) as memory:
            yield memory
        return
    run_command(folder, "import", DEMO, *storage)
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    made = run_command(folder, "token", "create", "--label", "grade sync", *scopes, "--json", *storage)
    with serve(folder, json.loads(made)["token"], *storage) as durable:
        yield durable
    assert json.loads(run_command(folder, "check", "--json", *storage))["ok"]


@pytest.fixture
def tool(served: RunningService) -> Iterator[GradeTool]:
    with closing(GradeTool(served)) as made:
        yield made


def line_item(class_id: str) -> dict[str, Any]:
    """A line item as the grade sync sends it: no category, no grading period, references by id alone."""
    return {
        "title": "Essay on limits",
        "assignDate": "2026-09-01T00:00:00.000Z",
        "dueDate": "2026-09-10T23:59:59.000Z",
        "class": {"sourcedId": class_id},
        "resultValueMin": 0,
        "resultValueMax": 100,
    }


def result(item: str, student: str, score: float | None, status: str = "fully graded") -> dict[str, Any]:
    """A result as the grade sync sends it."""
    return {
        "lineItem": {"sourcedId": item},
        "student": {"sourcedId": student},
        "score": score,
        "scoreStatus": status,
        "scoreDate": "2026-09-11T08:00:00.000Z",
        "comment": "",
    }


def class_of_teacher(tool: GradeTool) -> str:
    """The first active class of the teacher, who is found by e-mail."""
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
        str(uuid.uuid4()): result(item, student["sourcedId"], score, status)
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
    gone = tool.find("/results", "status='tobedeleted'")
    assert {each["sourcedId"] for each in gone} >= {first, *others}
    assert item in {each["sourcedId"] for each in tool.find("/lineItems", "status='tobedeleted'")}
    since = renamed["dateLastModified"]
    assert {each["sourcedId"] for each in tool.find("/lineItems", f"dateLastModified>'{since}'")} == {item}


def test_concurrent_grade_tools_lose_no_write(served: RunningService, tool: GradeTool) -> None:
    class_id = class_of_teacher(tool)
    student = tool.find(f"/classes/{class_id}/students")[0]["sourcedId"]
    item = str(uuid.uuid4())
    tool.put(f"/lineItems/{item}", "lineItem", line_item(class_id), 201)
    answered: list[tuple[str, float]] = []

    def grading(client: int) -> None:
        with closing(GradeTool(served)) as other:
            for turn in range(RESULTS_PER_CLIENT):
                key = f"{item}-{client}-{turn}"
                made = other.put(f"/results/{key}", "result", result(item, student, client + turn / 100), 201)
                answered.append((made["sourcedId"], made["score"]))

    tools = [threading.Thread(target=grading, args=(client,)) for client in range(CLIENT_COUNT)]
    for each in tools:
        each.start()
    for each in tools:
        each.join(120)
    assert len(answered) == CLIENT_COUNT * RESULTS_PER_CLIENT >= 500
    stored = tool.find(f"/classes/{class_id}/lineItems/{item}/results")
    assert sorted((each["sourcedId"], each["score"]) for each in stored) == sorted(answered)
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
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = json.loads(answer.read())
    assert answer.status == 413
    assert (body["error"], body["statusInfoSet"][0]["imsx_codeMinor"]) == ("invalid_data", "invalid data")
