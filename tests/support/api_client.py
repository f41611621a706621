"""Client of the API for tests: requests with a token, and checks of responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of

IMS = "/ims/oneroster/v1p1"
CHALK = "/api/oneroster/v1p1"


class Consumer:
    """Client of the API with a token, by default one with every scope. Paths without an API root are below `IMS`."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self.token = token or create_token(app, ALL)

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> TestResponse:
        """Return the response to a request with the token."""
        url = path if path.startswith((IMS, CHALK)) else IMS + path
        return self.client.open(
            url, method=method, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}
        )

    def ids(self, path: str) -> list[str]:
        """Return the ids of a collection in the order of the response, which must be 200."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        return [item["sourcedId"] for item in items(response)]


def create_token(app: Flask, scopes: Iterable[str]) -> str:
    """Return a new token with these scopes."""
    token, _ = services_of(app).tokens.create("test", tuple(scopes))
    assert token is not None
    return token


def items(response: TestResponse) -> list[dict[str, Any]]:
    """Return the objects of a collection response."""
    assert response.json is not None
    objects: list[dict[str, Any]] = next(iter(response.json.values()))
    return objects


def error_message(response: TestResponse, status: int, error: str, code_minor: str) -> str:
    """Return the message of an error response, after checks of its status and of both halves of its body."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    body = response.json
    assert body is not None
    assert list(body) == ["error", "message", "statusInfoSet"]
    [entry] = body["statusInfoSet"]
    assert (body["error"], entry["imsx_codeMinor"]) == (error, code_minor)
    assert (entry["imsx_codeMajor"], entry["imsx_severity"]) == ("failure", "error")
    assert entry["imsx_description"] == body["message"]
    message: str = body["message"]
    return message
