"""A service with a token endpoint, and helpers for token requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.services import Services
from tests.conftest import services_of

TOKEN_PATH = "/oauth/token"
PUBLIC_URL = "https://roster.example.org"
GRANT = {"grant_type": "client_credentials"}

counter = itertools.count(1)
"""Source of numbers for names and addresses that no other test uses."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Application with an empty store."""
    app = create_app(storage="memory:", data=str(tmp_path_factory.mktemp("data")), public_url=PUBLIC_URL)
    yield app
    services_of(app).login_log.close()
    services_of(app).store.close()


@pytest.fixture
def services(served: Flask) -> Services:
    return services_of(served)


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    """HTTP client at an address of its own, so that failed logins of other tests do not count against it."""
    client = served.test_client()
    client.environ_base["REMOTE_ADDR"] = f"10.0.{next(counter) % 250}.1"
    return client


def create_client(services: Services, scopes: frozenset[str] = DEFAULT) -> tuple[str, str]:
    """Return id and secret of a new OAuth client."""
    secret, record = services.clients.create("a platform", scopes)
    assert secret is not None
    return record.id, secret


def request_token(
    client: FlaskClient, credentials: tuple[str, str], path: str = TOKEN_PATH, **form: str
) -> TestResponse:
    """Return the response to a token request with a Basic header."""
    return client.post(path, data=GRANT | form, auth=credentials)


def token_body(response: TestResponse) -> dict[str, Any]:
    """Return the body of a token response, after checks against RFC 6749 (section 5.1)."""
    assert response.status_code == 200, response.text
    assert response.content_type == "application/json"
    assert (response.headers["Cache-Control"], response.headers["Pragma"]) == ("no-store", "no-cache")
    body: dict[str, Any] = response.json  # type: ignore[assignment]  # checked in the next line
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    return body


def assert_oauth_error(response: TestResponse, status: int, error: str) -> None:
    """Check an error response against RFC 6749 (section 5.2)."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert (response.headers["Cache-Control"], response.headers["Pragma"]) == ("no-store", "no-cache")
    assert response.json is not None
    assert response.json["error"] == error
    assert set(response.json) <= {"error", "error_description"}
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


def read_status(client: FlaskClient, token: str, path: str = "/orgs") -> int:
    """Return the status of a read with a bearer token."""
    return client.get(f"/ims/oneroster/v1p1{path}", headers={"Authorization": f"Bearer {token}"}).status_code
