"""Grade tools: clients that write to the gradebook of the small roster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from chalk_flask.roster.integrity.checker import check_store
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer
from tests.support.small_roster import ROSTER, Row, fill

LINE_ITEM = {
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
FORBIDDEN = ("forbidden", "forbidden")
INVALID = ("invalid_data", "invalid data")
UNKNOWN = ("unknown_object", "unknown object")
"""Error and codeMinor of rejected writes."""

PAYLOADS: dict[str, dict[str, Any]] = {
    "/lineItems": {"lineItem": LINE_ITEM},
    "/results": {"result": RESULT},
    "/categories": {"category": {"title": "Quiz"}},
}
"""A valid body for the path of each collection that can be written."""


class Tool(Consumer):
    """Client that also writes."""

    def send(
        self, path: str, body: object, method: str = "PUT", content_type: str = "application/json"
    ) -> TestResponse:
        """Return the response to a request with a body: bytes as they are, anything else as JSON."""
        url = path if path.startswith((IMS, CHALK)) else IMS + path
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.client.open(url, method=method, data=data, content_type=content_type, headers=headers)

    def delete(self, path: str) -> TestResponse:
        """Return the response to a DELETE."""
        return self.get(path, method="DELETE")


def restricted_tool(app: Flask, **restrictions: list[str]) -> Tool:
    """Return a tool whose token has restrictions, given as on the command line."""
    token, _ = services_of(app).tokens.create("restricted", ALL, restrictions=AccessRestrictions.parse(**restrictions))
    assert token is not None
    return Tool(app, token)


def stored(app: Flask, path: str) -> Row:
    """Return the record at a path as an unrestricted client sees it."""
    response = Tool(app).get(path)
    assert response.status_code == 200, (path, response.text)
    [record] = (response.json or {}).values()
    return dict(record)


def store(app: Flask, name: str, key: str, **changes: Any) -> None:
    """Store a record of the small roster with changes."""
    record = next(record for record in ROSTER[name] if record["sourcedId"] == key) | changes
    with services_of(app).store.write("default") as transaction:
        transaction.put(name, [FILES[name].record(record)])


def record_of(response: TestResponse) -> Row:
    assert response.status_code in (200, 201), response.text
    [record] = (response.json or {}).values()
    return dict(record)


@pytest.fixture
def filled(app: Flask) -> Iterator[Flask]:
    """Application with the small roster. Its store must be as consistent after the test as before."""
    store = services_of(app).store
    fill(store)
    problems = check_store(store).problems
    yield app
    assert check_store(store).problems == problems


@pytest.fixture
def tool(filled: Flask) -> Tool:
    """Tool with every scope."""
    return Tool(filled)
