"""The token endpoint: paths, scopes, tokens, assertions and errors."""

from __future__ import annotations

import logging
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from joserfc import jwt
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.api.oauth2.token_endpoint import PATHS
from chalk_flask.auth.clients.assertions import JWT_BEARER, parse_public_keys
from chalk_flask.permissions.scopes import (
    ALL,
    DEFAULT,
    DEMOGRAPHICS,
    GRADEBOOK,
    GRADEBOOK_WRITE,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
    sort_scopes,
)
from chalk_flask.services import Services
from tests.api.oauth2.conftest import (
    GRANT,
    PUBLIC_URL,
    TOKEN_PATH,
    assert_oauth_error,
    create_client,
    read_status,
    request_token,
    token_body,
)
from tests.auth.conftest import wait_until
from tests.conftest import services_of
from tests.support.keys import ec_key, make_jwks, rsa_key, sign_jwt
from tests.support.paths import write_private


@pytest.mark.parametrize("path", [*PATHS, TOKEN_PATH + "/"])
def test_token_is_issued_at_every_path_and_opens_the_api(client: FlaskClient, services: Services, path: str) -> None:
    token = token_body(request_token(client, create_client(services), path))["access_token"]
    assert read_status(client, token) == 200
    assert read_status(client, token, "/demographics") == 403


def test_client_with_a_token_was_used(client: FlaskClient, services: Services) -> None:
    used, unused = create_client(services), create_client(services)
    token_body(request_token(client, used))
    assert request_token(client, (unused[0], "wrong")).status_code == 401
    assert wait_until(lambda: any(one.id == used[0] and one.last_used for one in services.clients.list()))
    [other] = [one for one in services.clients.list() if one.id == unused[0]]
    assert other.last_used is None


@pytest.mark.reading("C-01")
def test_paths_are_oauth_token_and_beside_both_roots() -> None:
    beside = {f"/{root}/oneroster{version}/token" for root in ("api", "ims") for version in ("", "/v1p1")}
    assert set(PATHS) == {TOKEN_PATH, "/token"} | beside


@pytest.mark.reading("C-01")
@pytest.mark.parametrize(
    "path", ["/token", "/Token", "/TOKEN/", "/oauth/Token", "/ims/oneroster/v1p1/TOKEN", "/api/oneroster/tOkEn"]
)
def test_last_segment_may_have_any_letter_case(client: FlaskClient, services: Services, path: str) -> None:
    token = token_body(request_token(client, create_client(services), path))["access_token"]
    assert read_status(client, token) == 200
    signed = sign_assertion(create_key_client(services), aud=PUBLIC_URL + path)
    token_body(request_token_signed(client, signed, path=path))
    response = client.get(path)
    assert_oauth_error(response, 405, "invalid_request")


@pytest.mark.parametrize(
    "path", ["/OAuth/token", "/tokens", "/token/x", "/oauth/token%2F", "/oauth/tokén", "/IMS/token"]
)
def test_other_paths_are_no_token_endpoint(client: FlaskClient, services: Services, path: str) -> None:
    response = request_token(client, create_client(services), path)
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"] == "unknown_object"


SCOPES: list[tuple[str, frozenset[str], list[str]]] = [
    ("", DEFAULT, sort_scopes(DEFAULT)),
    ("   ", DEFAULT, sort_scopes(DEFAULT)),
    (ROSTER, DEFAULT, [ROSTER]),
    (f"{GRADEBOOK} {ROSTER}", DEFAULT, [ROSTER, GRADEBOOK]),
    (f"{ROSTER} {ROSTER}  {ROSTER}", DEFAULT, [ROSTER]),
    (f"openid {ROSTER} {DEMOGRAPHICS}", DEFAULT, [ROSTER]),
    (" ".join(ALL), DEFAULT, sort_scopes(DEFAULT)),
    (f"{ROSTER_CORE} {ROSTER}", frozenset({ROSTER}), [ROSTER_CORE, ROSTER]),
    (ROSTER_CORE, frozenset({ROSTER}), [ROSTER_CORE]),
    (f"{ROSTER} {RESOURCE}", frozenset({ROSTER_CORE, RESOURCE}), [RESOURCE]),
    (DEMOGRAPHICS, frozenset(ALL), [DEMOGRAPHICS]),
    ("roster.readonly", DEFAULT, [ROSTER]),
    (f"gradebook.readonly {ROSTER} roster-demographics.readonly", DEFAULT, [ROSTER, GRADEBOOK]),
    ("roster-core.readonly", frozenset({ROSTER}), [ROSTER_CORE]),
]


@pytest.mark.reading("C-02")
@pytest.mark.parametrize(("requested", "client_scopes", "granted"), SCOPES)
def test_granted_scopes_are_issued_and_listed(
    client: FlaskClient, services: Services, requested: str, client_scopes: frozenset[str], granted: list[str]
) -> None:
    body = token_body(request_token(client, create_client(services, client_scopes), scope=requested))
    assert body["scope"] == " ".join(granted)
    principal, _ = services.authenticator.authenticate(body["access_token"])
    assert principal is not None
    assert principal.scopes == frozenset(granted)


@pytest.mark.parametrize(
    "requested", ["openid", DEMOGRAPHICS, f"{GRADEBOOK_WRITE} x", ROSTER.upper(), "\0", "x" * 20_000]
)
def test_only_unavailable_scopes_is_invalid_scope(client: FlaskClient, services: Services, requested: str) -> None:
    response = request_token(client, create_client(services), scope=requested)
    assert_oauth_error(response, 400, "invalid_scope")
    assert response.json is not None
    assert all(scope in response.json["error_description"] for scope in DEFAULT)


@pytest.mark.reading("C-05")
def test_token_ends_with_its_client_only(client: FlaskClient, services: Services) -> None:
    credentials, other = create_client(services), create_client(services)
    tokens = [token_body(request_token(client, credentials))["access_token"] for _ in range(3)]
    other_token = token_body(request_token(client, other))["access_token"]
    assert [read_status(client, token) for token in tokens] == [200] * 3
    services.clients.revoke(credentials[0])
    assert [read_status(client, token) for token in tokens] == [401] * 3
    assert_oauth_error(request_token(client, credentials), 401, "invalid_client")
    assert read_status(client, other_token) == 200


def test_rotated_and_previous_secret_are_valid(client: FlaskClient, services: Services) -> None:
    client_id, previous = create_client(services)
    new, _ = services.clients.rotate(client_id, timedelta(hours=1))
    for secret in (previous, new):
        token_body(request_token(client, (client_id, secret)))


def test_token_lifetime_is_a_setting(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path), token_seconds=120)
    response = request_token(app.test_client(), create_client(services_of(app)))
    assert response.json is not None
    assert response.json["expires_in"] == 120


@pytest.mark.reading("C-06")
def test_response_does_not_reveal_if_a_client_exists(client: FlaskClient, services: Services) -> None:
    client_id, _ = create_client(services)
    known, unknown = (request_token(client, (name, "invalid")) for name in (client_id, "chk_client_0123456789abcdef"))
    for response in (known, unknown):
        del response.headers["X-Request-ID"]
    assert (known.status_code, known.data, list(known.headers)) == (
        unknown.status_code, unknown.data, list(unknown.headers),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("grant_type", "error"),
    [("", "invalid_request"), ("password", "unsupported_grant_type"), ("x" * 50_000, "unsupported_grant_type"),
     ("refresh_token", "unsupported_grant_type"), ("CLIENT_CREDENTIALS", "unsupported_grant_type"),
     ('"\\\0é\r\n', "unsupported_grant_type")],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_other_grant_types_are_rejected(client: FlaskClient, services: Services, grant_type: str, error: str) -> None:
    response = request_token(client, create_client(services), grant_type=grant_type)
    assert_oauth_error(response, 400, error)
    assert not grant_type or grant_type not in response.text
    assert response.json is not None
    assert "must be client_credentials" in response.json["error_description"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_than_post_are_405(client: FlaskClient, method: str) -> None:
    for path in PATHS:
        response = client.open(path, method=method)
        assert_oauth_error(response, 405, "invalid_request")
        assert response.headers["Allow"] == "POST"


def create_key_client(services: Services) -> str:
    return services.clients.create("signs", DEFAULT, jwks=parse_public_keys(make_jwks(rsa_key("a"), ec_key("a"))))[1].id


def sign_assertion(client_id: str, **claims: Any) -> str:
    now = int(time.time())
    defaults: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": PUBLIC_URL + TOKEN_PATH,
        "exp": now + 60,
        "jti": str(uuid.uuid4()),
    }
    return sign_jwt(ec_key("a"), **(defaults | claims))


def request_token_signed(
    client: FlaskClient, text: str, kind: str = JWT_BEARER, path: str = TOKEN_PATH, **form: str
) -> TestResponse:
    return client.post(path, data=GRANT | {"client_assertion": text, "client_assertion_type": kind} | form)


@pytest.mark.parametrize("path", PATHS)
def test_client_with_a_key_logs_in_with_an_assertion(client: FlaskClient, services: Services, path: str) -> None:
    client_id = create_key_client(services)
    body = token_body(request_token_signed(client, sign_assertion(client_id, aud=PUBLIC_URL + path), scope=ROSTER))
    assert body["scope"] == ROSTER
    assert read_status(client, body["access_token"]) == 200


def test_audience_of_an_assertion_is_the_public_url(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path), public_url="https://roster.example.org/x")
    client_id = create_key_client(services_of(app))
    for_public_url = sign_assertion(client_id, aud="https://roster.example.org/x" + TOKEN_PATH)
    token_body(request_token_signed(app.test_client(), for_public_url))
    assert_oauth_error(request_token_signed(app.test_client(), sign_assertion(client_id)), 401, "invalid_client")


@pytest.mark.reading("C-04")
@pytest.mark.parametrize("host", ["localhost", "other.example.org", "a/b"])
def test_assertion_without_a_public_url_is_rejected_whatever_host_it_names(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(storage="memory:", data=str(tmp_path))
    text = sign_assertion(create_key_client(services_of(app)), aud=f"http://{host}{TOKEN_PATH}")
    form = GRANT | {"client_assertion": text, "client_assertion_type": JWT_BEARER}
    for _ in range(2):
        response = app.test_client().post(TOKEN_PATH, data=form, headers={"Host": host})
        assert_oauth_error(response, 401, "invalid_client")
        assert response.json is not None
        assert "the service has no public_url" in response.json["error_description"]
    assert caplog.text.count("set CHALK_PUBLIC_URL") == 1
    token_body(request_token(app.test_client(), create_client(services_of(app))))


@pytest.mark.reading("C-04")
def test_host_header_does_not_choose_the_audience(client: FlaskClient, services: Services) -> None:
    text = sign_assertion(create_key_client(services), aud=f"http://other.example.org{TOKEN_PATH}")
    form = GRANT | {"client_assertion": text, "client_assertion_type": JWT_BEARER}
    response = client.post(TOKEN_PATH, data=form, headers={"Host": "other.example.org"})
    assert_oauth_error(response, 401, "invalid_client")


@pytest.mark.reading("C-04")
def test_assertion_is_accepted_once(client: FlaskClient, services: Services) -> None:
    text = sign_assertion(create_key_client(services))
    token_body(request_token_signed(client, text))
    assert_oauth_error(request_token_signed(client, text), 401, "invalid_client")


def test_invalid_assertions_are_invalid_client(client: FlaskClient, services: Services) -> None:
    client_id, now = create_key_client(services), int(time.time())
    invalid = [
        *("x", "a.b.c", "x" * 30_000),
        sign_assertion("chk_client_0123456789abcdef"),
        sign_assertion(create_client(services)[0]),
        sign_assertion(client_id, exp=now - 61),
        sign_assertion(client_id, exp=now + 3700),
        sign_assertion(client_id, iat=now + 99),
        sign_assertion(client_id, aud="https://elsewhere.example.org"),
        sign_assertion(client_id, jti=None),
        jwt.encode({"alg": "ES256"}, {"sub": client_id}, ec_key("b")),
    ]
    for text in invalid:
        assert_oauth_error(request_token_signed(client, text), 401, "invalid_client")
    assert_oauth_error(request_token_signed(client, sign_assertion(client_id), "urn:other"), 401, "invalid_client")
    assert_oauth_error(request_token_signed(client, sign_assertion(client_id), ""), 401, "invalid_client")
    assert_oauth_error(
        request_token_signed(client, sign_assertion(client_id), client_id="another"), 401, "invalid_client"
    )
    token_body(request_token_signed(client, sign_assertion(client_id), client_id=client_id))


def test_no_token_is_logged(client: FlaskClient, services: Services, caplog: pytest.LogCaptureFixture) -> None:
    credentials = create_client(services)
    with caplog.at_level(logging.DEBUG):
        token = token_body(request_token(client, credentials))["access_token"]
    assert token not in caplog.text
    assert credentials[1] not in caplog.text


def test_unusable_key_file_is_503_with_a_log_entry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_private(tmp_path / "access-tokens.key", b"spoilt")
    app = create_app(storage="memory:", data=str(tmp_path))
    response = request_token(app.test_client(), create_client(services_of(app)))
    assert (response.status_code, response.content_type) == (503, "application/json")
    assert response.json is not None
    assert response.json["error"] == "temporarily_unavailable"
    assert "access-tokens.key contains no key of this service" in caplog.text
    assert "spoilt" not in caplog.text
