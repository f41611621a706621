"""Headers that protect responses: no sniffing of types, and no copies of personal data in caches."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from tests.api.writes.conftest import PAYLOADS, Tool
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer

READS = ("/users", "/users/u-1", "/classes/c-1/students", "/demographics", "/results")
OTHERS = (f"{IMS}/users/unknown", "/unknown", f"{IMS}/users?limit=x", f"{CHALK}/changes", "/oauth/token")


@pytest.mark.parametrize("path", [*(IMS + path for path in READS), *OTHERS])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "TRACE"])
def test_every_response_forbids_sniffing(served: Flask, path: str, method: str) -> None:
    consumer = Consumer(served)
    for headers in ({}, {"Authorization": f"Bearer {consumer.token}"}, {"Authorization": "OAuth x"}):
        response = served.test_client().open(path, method=method, headers=headers)
        assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]


def test_response_without_a_body_forbids_sniffing(consumer: Consumer) -> None:
    tag = consumer.get("/users").headers["ETag"]
    response = consumer.get("/users", {"If-None-Match": tag})
    assert (response.status_code, response.headers["X-Content-Type-Options"]) == (304, "nosniff")


@pytest.mark.reading("A-23")
@pytest.mark.parametrize("path", READS)
def test_read_with_an_etag_may_be_stored_by_its_client_only(consumer: Consumer, path: str) -> None:
    response = consumer.get(path)
    assert response.headers["ETag"]
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in response.headers["Vary"]


@pytest.mark.reading("A-23")
def test_response_without_an_etag_is_never_stored(app: Flask) -> None:
    tool = Tool(app)
    feed = tool.get(f"{CHALK}/changes?since=latest")
    created = tool.send("/categories/new", PAYLOADS["/categories"])
    for response in (feed, created):
        assert response.status_code in (200, 201)
        assert "ETag" not in response.headers
        assert response.headers["Cache-Control"] == "private, no-store"


def test_unusable_key_file_is_503_with_the_reason_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(storage="memory:", data=str(tmp_path))
    services = services_of(app)
    _, client = services.clients.create("a platform", ["https://purl.imsglobal.org/spec/or/v1p1/scope/roster.readonly"])
    token = services.access_tokens.issue(client.id, "default", client.scopes)
    (tmp_path / "access-tokens.key").chmod(0o644)
    response = app.test_client().get(f"{IMS}/users", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert "chmod 600" in caplog.text
    assert token not in caplog.text
    services.store.close()
