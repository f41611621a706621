"""Error responses: one body for every error, and logs without personal data."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

import pytest
from flask import Flask

from backends import StorageBusyError, StorageError
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, error_message


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/classes/c-1/students"])
def test_other_methods_are_405(consumer: Consumer, path: str, method: str) -> None:
    response = consumer.get(path, method=method)
    error_message(response, 405, "invalid_data", "invalid data")
    assert {name.strip() for name in response.headers["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.reading("A-01")
@pytest.mark.parametrize("path", ["/nothing", "/ims", "/ims/oneroster/v1p2/users", f"{IMS}/usersx", "/static/x", "/é"])
def test_unknown_path_has_the_error_body(served: Flask, path: str) -> None:
    message = error_message(served.test_client().get(path), 404, "unknown_object", "unknown object")
    assert all(f"{root}/" in message for root in (CHALK, IMS))


@pytest.mark.reading("A-01")
def test_error_names_the_operation_and_a_unique_reference(consumer: Consumer) -> None:
    entries = []
    for _ in range(2):
        body = consumer.get("/schools/nope/students").json
        assert body is not None
        entries += body["statusInfoSet"]
    assert {entry["imsx_operationRefIdentifier"] for entry in entries} == {"getStudentsForSchool"}
    assert len({uuid.UUID(entry["imsx_messageRefIdentifier"]) for entry in entries}) == 2


def test_busy_store_is_503_with_retry_after(serve: Callable[..., Flask]) -> None:
    app = serve()

    @app.get("/busy")
    def busy() -> str:
        raise StorageBusyError("another writer holds it")

    response = app.test_client().get("/busy")
    assert "writer" not in error_message(response, 503, "server_busy", "server_busy")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.reading("A-14")
@pytest.mark.parametrize("error", [StorageError("O'Brien"), ValueError("O'Brien")])
def test_failure_reveals_no_cause_and_logs_no_data(
    serve: Callable[..., Flask], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    app = serve()

    @app.get("/fail")
    def fail() -> str:
        raise error from KeyError("Brien")

    response = app.test_client().get("/fail")
    assert "Brien" not in error_message(response, 500, "server_error", "internal_server_error")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Brien" not in caplog.text
    assert type(error).__name__ in record.getMessage()
    assert "KeyError" in record.getMessage()
    assert response.json is not None
    assert response.json["statusInfoSet"][0]["imsx_messageRefIdentifier"] in record.getMessage()


def test_closed_store_is_503(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app)
    services_of(app).store.close()
    error_message(consumer.get("/users"), 503, "server_busy", "server_busy")
