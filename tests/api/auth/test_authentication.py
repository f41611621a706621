"""Authentication and scopes of requests with bearer tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask import Flask

from chalk_flask.api.routes import READ_ROUTES
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

MISSING = "The bearer token is missing, invalid, expired or revoked. Send the header Authorization: Bearer TOKEN."


PATHS_BY_SCOPE = {
    ROSTER_CORE: ["/orgs", "/users/u-1", "/terms"],
    ROSTER: ["/schools/s-1/students", "/classes/c-1/students"],
    DEMOGRAPHICS: ["/demographics", "/demographics/u-1"],
    RESOURCE: ["/resources", "/classes/c-1/resources"],
    GRADEBOOK: ["/results", "/classes/c-1/lineItems", "/classes/c-1/categories"],
}


SATISFIED_SCOPES = {
    ROSTER_CORE: {ROSTER_CORE},
    ROSTER: {ROSTER, ROSTER_CORE},
    DEMOGRAPHICS: {DEMOGRAPHICS},
    RESOURCE: {RESOURCE},
    GRADEBOOK: {GRADEBOOK},
    GRADEBOOK_WRITE: set(),
}


@pytest.mark.parametrize("scope", SATISFIED_SCOPES)
def test_scope_opens_its_own_routes_only(serve: Callable[..., Flask], scope: str) -> None:
    app = serve()
    consumer = Consumer(app, create_token(app, (scope,)))
    for needed, paths in PATHS_BY_SCOPE.items():
        for path in paths:
            response = consumer.get(path)
            if needed in SATISFIED_SCOPES[scope]:
                assert response.status_code == 200
            else:
                error_message(response, 403, "forbidden", "forbidden")
                assert response.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'


def test_default_scopes_open_everything_but_demographics(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app, create_token(app, tuple(DEFAULT)))
    for needed, paths in PATHS_BY_SCOPE.items():
        for path in paths:
            assert consumer.get(path).status_code == (403 if needed == DEMOGRAPHICS else 200)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer ", "Bearer nonsense", "Bearer chk_live_" + "0" * 40, "Basic dTpw", "chk_live_x"),
        *("Bearer a b", "Bearer realm=x", "Token abc", "Bearer é", "bearer " + "x" * 5000),
        *("Basic é", "bAsIc dTpw\xff", "Digest é", "Bearer é=é", "é", "Bearer\xa0é", "Bearer a*=UTF-8''%ff"),
    ],
)
@pytest.mark.parametrize("root", [CHALK, IMS])
def test_missing_or_invalid_token_is_401(served: Flask, root: str, header: str | None) -> None:
    for route in READ_ROUTES[:2]:
        headers = {} if header is None else {"Authorization": header}
        response = served.test_client().get(root + route.path.replace("{id}", "t-1"), headers=headers)
        assert error_message(response, 401, "invalid_token", "unauthorized") == MISSING
        has_token = header is not None and re.match(r"(?i)bearer [^=]+$", header)
        assert response.headers["WWW-Authenticate"] == ('Bearer error="invalid_token"' if has_token else "Bearer")


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
    anonymous = served.test_client()
    assert anonymous.get(f"{IMS}/users?limit=0").status_code == 401
    consumer = Consumer(served, create_token(served, (RESOURCE,)))
    assert consumer.get("/users?limit=0").status_code == 403
    assert consumer.get("/classes/nope/students").status_code == 403
    assert Consumer(served).get("/classes/nope/students?limit=0").status_code == 400
