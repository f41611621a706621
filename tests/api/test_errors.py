"""Who is let in, and every error in one shape (digest 5 and 9.1; design section 5)."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask import Flask

from backends import StorageBusyError, StorageUnavailableError
from chalk_flask.api.routes import ROUTES
from chalk_flask.permissions.scopes import (
    ALL,
    DEFAULT,
    DEMOGRAPHICS,
    GRADEBOOK,
    GRADEBOOK_WRITE,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
)
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, create_token, error_message

MISSING = "The bearer token is missing or invalid."

DOORS = {
    ROSTER_CORE: ["/orgs", "/users/u-1", "/terms"],
    ROSTER: ["/schools/s-1/students", "/classes/c-1/students"],
    DEMOGRAPHICS: ["/demographics", "/demographics/u-1"],
    RESOURCE: ["/resources", "/classes/c-1/resources"],
    GRADEBOOK: ["/results", "/classes/c-1/lineItems", "/classes/c-1/categories"],
}
OPENS = {
    ROSTER_CORE: {ROSTER_CORE},
    ROSTER: {ROSTER, ROSTER_CORE},
    DEMOGRAPHICS: {DEMOGRAPHICS},
    RESOURCE: {RESOURCE},
    GRADEBOOK: {GRADEBOOK},
    GRADEBOOK_WRITE: set(),
}


@pytest.mark.parametrize("held", OPENS)
def test_scope_opens_its_own_routes_only(serve: Callable[..., Flask], held: str) -> None:
    app = serve()
    consumer = Consumer(app, create_token(app, (held,)))
    for needed, paths in DOORS.items():
        for path in paths:
            answer = consumer.get(path)
            if needed in OPENS[held]:
                assert answer.status_code == 200
            else:
                error_message(answer, 403, "forbidden", "forbidden")
                assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


def test_default_scopes_open_everything_but_demographics(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app, create_token(app, tuple(DEFAULT)))
    for needed, paths in DOORS.items():
        for path in paths:
            assert consumer.get(path).status_code == (403 if needed == DEMOGRAPHICS else 200)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer ", "Bearer nonsense", "Bearer chk_live_" + "0" * 40, "Basic dTpw", "chk_live_x"),
        *("Bearer a b", "Bearer realm=x", "Token abc", "Bearer é", "bearer " + "x" * 5000),
    ],
)
@pytest.mark.parametrize("root", [CHALK, IMS])
def test_missing_or_invalid_token_is_401(served: Flask, root: str, header: str | None) -> None:
    for route in ROUTES[:2]:
        headers = {} if header is None else {"Authorization": header}
        answer = served.test_client().get(root + route.path.replace("{id}", "t-1"), headers=headers)
        assert error_message(answer, 401, "invalid_token", "unauthorized") == MISSING
        shown = header is not None and re.match(r"(?i)bearer [^=]+$", header)
        assert answer.headers["WWW-Authenticate"] == ('Bearer error="invalid_token"' if shown else "Bearer")


def test_expired_and_revoked_tokens_are_401(serve: Callable[..., Flask]) -> None:
    app = serve()
    tokens = services_of(app).tokens
    expired, _ = tokens.create("old", ALL, expires=datetime(2020, 1, 1, tzinfo=UTC))
    revoked, record = tokens.create("gone", ALL)
    assert Consumer(app, revoked).get("/users").status_code == 200
    tokens.revoke(record.id)
    for token in (expired, revoked):
        assert error_message(Consumer(app, token).get("/users"), 401, "invalid_token", "unauthorized") == MISSING


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_bearer_scheme_is_case_insensitive(consumer: Consumer, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {consumer.token}"}
    assert consumer.get("/users", headers).status_code == 200


@pytest.mark.reading("Q-18")
def test_access_is_checked_before_parameters_and_parents(served: Flask) -> None:
    nobody = served.test_client()
    assert nobody.get(f"{IMS}/users?limit=0").status_code == 401
    limited = Consumer(served, create_token(served, (RESOURCE,)))
    assert limited.get("/users?limit=0").status_code == 403
    assert limited.get("/classes/nope/students").status_code == 403
    assert Consumer(served).get("/classes/nope/students?limit=0").status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/classes/c-1/students"])
def test_other_methods_are_405(consumer: Consumer, path: str, method: str) -> None:
    answer = consumer.get(path, method=method)
    error_message(answer, 405, "invalid_data", "invalid data")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.reading("A-01")
@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/ims", "/ims/oneroster/v1p2/users", f"{IMS}/usersx", "/static/x", "/é"]
)
def test_unknown_path_has_the_error_body(served: Flask, path: str) -> None:
    error_message(served.test_client().get(path), 404, "unknown_object", "unknown object")


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

    answer = app.test_client().get("/busy")
    assert "writer" not in error_message(answer, 503, "server_busy", "server_busy")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.reading("A-14")
@pytest.mark.parametrize("error", [StorageUnavailableError("the file of O'Brien is gone"), ValueError("O'Brien")])
def test_failure_reveals_no_cause_and_logs_no_data(
    serve: Callable[..., Flask], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    app = serve()

    @app.get("/fail")
    def fail() -> str:
        raise error from KeyError("Brien")

    answer = app.test_client().get("/fail")
    assert "Brien" not in error_message(answer, 500, "server_error", "internal_server_error")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Brien" not in caplog.text
    assert type(error).__name__ in record.getMessage()
    assert "KeyError" in record.getMessage()
    assert answer.json is not None
    assert answer.json["statusInfoSet"][0]["imsx_messageRefIdentifier"] in record.getMessage()


def test_closed_store_is_500(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app)
    services_of(app).store.close()
    error_message(consumer.get("/users"), 500, "server_error", "internal_server_error")


@pytest.mark.reading("Q-19")
@pytest.mark.parametrize("host", ['x"y', "a b", "<a>", "a,b", "é", "", "a/b", "a@b", "[::1", "a:b"])
def test_invalid_host_header_is_rejected(consumer: Consumer, host: str) -> None:
    assert "Host" in error_message(consumer.get("/users", {"Host": host}), 400, "invalid_data", "invalid data")
