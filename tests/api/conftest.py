"""The small roster, served from every backend. Reads change nothing, so one service a backend is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of, url_in
from tests.support.small_roster import fill

IMS = "/ims/oneroster/v1p1"
CHALK = "/api/oneroster/v1p1"


class Consumer:
    """A client of the API with a token. Paths that begin with a slash only are taken under the root of the standard."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self.token = token or token_for(app, ALL)

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> TestResponse:
        """The answer to a request with the token."""
        whole = path if path.startswith((IMS, CHALK)) else IMS + path
        return self.client.open(
            whole, method=method, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}
        )

    def ids(self, path: str) -> list[str]:
        """The ids of a collection in the order of the answer, which must be 200."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return [item["sourcedId"] for item in items(answer)]


def items(answer: TestResponse) -> list[dict[str, Any]]:
    """What the only collection of an answer holds."""
    assert answer.json is not None
    name = next(iter(answer.json))
    found: list[dict[str, Any]] = answer.json[name]
    return found


def token_for(app: Flask, scopes: tuple[str, ...]) -> str:
    """A new token with these scopes."""
    token, _ = services_of(app).tokens.create("test", scopes)
    assert token is not None
    return token


def problem(answer: TestResponse, status: int, error: str, minor: str) -> str:
    """The message of an error answer, once both halves of its body were found to say the same."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    body = answer.json
    assert body is not None
    assert list(body) == ["error", "message", "statusInfoSet"]
    [entry] = body["statusInfoSet"]
    assert (body["error"], entry["imsx_codeMinor"]) == (error, minor)
    assert (entry["imsx_codeMajor"], entry["imsx_severity"]) == ("failure", "error")
    assert entry["imsx_description"] == body["message"]
    message: str = body["message"]
    return message


@pytest.fixture(scope="session")
def served(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application whose store holds the small roster."""
    app = create_app(storage=url_in(tmp_path_factory.mktemp("served"), backend))
    fill(services_of(app).store)
    yield app
    services_of(app).store.close()


@pytest.fixture(scope="session")
def consumer(served: Flask) -> Consumer:
    """A client with every scope."""
    return Consumer(served)


@pytest.fixture
def serve(tmp_path: Any) -> Iterator[Callable[..., Flask]]:
    """Makes applications in memory with the small roster and other settings."""
    made: list[Flask] = []

    def make(**settings: object) -> Flask:
        app = create_app(storage="memory:", **settings)
        fill(services_of(app).store)
        made.append(app)
        return app

    yield make
    for app in made:
        services_of(app).store.close()
