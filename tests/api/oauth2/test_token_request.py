"""Parameters and credentials of token requests."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from contextlib import suppress

import pytest
from flask.testing import FlaskClient

from chalk_flask.auth.clients.assertions import JWT_BEARER, parse_public_keys
from chalk_flask.permissions.scopes import (
    DEFAULT,
    ROSTER,
    sort_scopes,
)
from chalk_flask.services import Services
from chalk_flask.tenants.store import TenantStore
from tests.api.oauth2.conftest import (
    GRANT,
    TOKEN_PATH,
    assert_oauth_error,
    counter,
    create_client,
    request_token,
    token_body,
)
from tests.support.keys import ec_key, make_jwks


def basic(text: str | bytes) -> dict[str, str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return {"Authorization": f"Basic {base64.b64encode(raw).decode()}"}


INVALID_HEADERS = {
    "none": {},
    "empty": {"Authorization": ""},
    "only a scheme": {"Authorization": "Basic"},
    "no base64": {"Authorization": "Basic !!!"},
    "no ASCII": {"Authorization": "Basic é"},
    "base64 cut short": {"Authorization": "Basic YWJ"},
    "bytes that are no text": basic(b"\xff\xfe:\xff"),
    "no colon": basic("{id}"),
    "no secret": basic("{id}:"),
    "no id": basic(":{secret}"),
    "nothing but a colon": basic(":"),
    "a wrong secret": basic("{id}:chk_secret_0000"),
    "a right secret and more": basic("{id}:{secret}0"),
    "a right secret in capitals": basic("{id}:{SECRET}"),
    "an unknown id": basic("chk_client_0123456789abcdef:{secret}"),
    "an id of other letters": basic("é:{secret}"),
    "a revoked client": basic("{revoked}:{revoked_secret}"),
    "a client of a deleted tenant": basic("{foreign}:{foreign_secret}"),
    "a client with a key": basic("{keyed}:"),
    "the secret of another": basic("{id}:{revoked_secret}"),
    "an over-long id": basic("x" * 10_000 + ":{secret}"),
    "an over-long secret": basic("{id}:" + "x" * 100_000),
    "nul": basic("{id}\0:{secret}\0"),
    "two joined by a comma": {"Authorization": "Basic {both}, Basic {both}"},
    "a bearer token": {"Authorization": "Bearer {secret}"},
    "digest": {"Authorization": 'Digest username="{id}"'},
}


def client_values(services: Services) -> dict[str, str]:
    """Return ids and secrets of new clients of several kinds, by their placeholders in the headers."""
    client_id, secret = create_client(services)
    revoked, revoked_secret = create_client(services)
    services.clients.revoke(revoked)
    tenant = f"north-{next(counter)}"
    TenantStore(services.store).create(tenant)
    foreign_secret, foreign = services.clients.create("of the north", DEFAULT, tenant)
    TenantStore(services.store).delete(tenant)
    _, keyed = services.clients.create("with a key", DEFAULT, jwks=parse_public_keys(make_jwks(ec_key("a"))))
    both = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {
        "id": client_id, "secret": secret, "SECRET": secret.upper(), "revoked": revoked, "both": both,
        "revoked_secret": revoked_secret, "foreign": foreign.id, "foreign_secret": str(foreign_secret),
        "keyed": keyed.id,
    }  # fmt: skip


def fill_header(header: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the header with placeholders replaced, also within base64."""
    text = header.get("Authorization", "")
    scheme, _, encoded = text.partition(" ")
    with suppress(ValueError):
        inner = base64.b64decode(encoded, validate=True)
        for name, value in values.items():
            inner = inner.replace(b"{%s}" % name.encode(), value.encode())
        return {"Authorization": f"{scheme} {base64.b64encode(inner).decode()}"} if text else {}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return {"Authorization": text}


@pytest.mark.parametrize("header", INVALID_HEADERS.values(), ids=INVALID_HEADERS)
def test_invalid_credentials_are_all_rejected_alike(
    client: FlaskClient, services: Services, header: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    values = client_values(services)
    with caplog.at_level(logging.DEBUG):
        response = client.post(TOKEN_PATH, data=GRANT, headers=fill_header(header, values))
    assert_oauth_error(response, 401, "invalid_client")
    output = caplog.text + response.text
    assert not any(values[secret] in output for secret in ("secret", "revoked_secret", "foreign_secret", "both"))


@pytest.mark.parametrize(
    "form", [{"client_id": "{id}"}, {"client_secret": "{secret}"}, {"client_id": "{id}", "client_secret": "wrong"},
             {"client_id": "unknown", "client_secret": "{secret}"}, {"client_id": "", "client_secret": ""},
             {"client_id": "x" * 20_000, "client_secret": "x" * 20_000}],
    ids=lambda form: str(form)[:60],
)  # fmt: skip
def test_invalid_credentials_in_the_form_are_rejected(
    client: FlaskClient, services: Services, form: dict[str, str]
) -> None:
    values = client_values(services)
    params = {
        name: value.replace("{id}", values["id"]).replace("{secret}", values["secret"]) for name, value in form.items()
    }
    assert_oauth_error(client.post(TOKEN_PATH, data=GRANT | params), 401, "invalid_client")


@pytest.mark.reading("C-03")
def test_credentials_in_the_url_are_rejected(client: FlaskClient, services: Services) -> None:
    client_id, secret = create_client(services)
    both = {"client_id": client_id, "client_secret": secret}
    for query in (both, {"client_id": client_id}, {"client_secret": secret}, {"client_assertion": "x"}):
        assert_oauth_error(client.post(TOKEN_PATH, query_string=GRANT | query, data=both), 400, "invalid_request")


def test_two_kinds_of_credentials_are_rejected(client: FlaskClient, services: Services) -> None:
    credentials = create_client(services)
    form = {"client_id": credentials[0], "client_secret": credentials[1]}
    assertion = {"client_assertion": "x", "client_assertion_type": JWT_BEARER}
    for params in (form, assertion):
        assert_oauth_error(request_token(client, credentials, **params), 400, "invalid_request")
    assert_oauth_error(client.post(TOKEN_PATH, data=GRANT | form | assertion), 400, "invalid_request")


@pytest.mark.parametrize("name", ["grant_type", "scope", "client_id", "client_secret", "client_assertion"])
def test_repeated_token_parameter_is_rejected(client: FlaskClient, services: Services, name: str) -> None:
    credentials = create_client(services)
    form = {"grant_type": ["client_credentials"], "scope": [ROSTER]} | {
        name: ["client_credentials", "client_credentials"]
    }
    assert_oauth_error(client.post(TOKEN_PATH, data=form, auth=credentials), 400, "invalid_request")
    assert_oauth_error(client.post(TOKEN_PATH, query_string=form, auth=credentials), 400, "invalid_request")


BODIES: dict[str, tuple[str, bytes]] = {
    "JSON": ("application/json", json.dumps(GRANT).encode()),
    "no type": ("", b"grant_type=client_credentials"),
    "text": ("text/plain", b"grant_type=client_credentials"),
    "several parts": ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--"),
    "too large": ("application/x-www-form-urlencoded", b"grant_type=client_credentials&x=" + b"x" * 70_000),
    "very many": ("application/x-www-form-urlencoded", b"a&" * 32_000),
    "bytes that are no text": ("application/x-www-form-urlencoded", b"\xff\xfe=%ff%00"),
    "JSON nested deeply": ("application/json", b"[" * 60_000),
}


@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES)
def test_body_that_is_not_a_form_is_rejected(client: FlaskClient, services: Services, kind: str, body: bytes) -> None:
    response = client.post(TOKEN_PATH, data=body, content_type=kind, auth=create_client(services))
    assert_oauth_error(response, 400, "invalid_request")


@pytest.mark.reading("C-03")
@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "application/json", "text/plain"])
def test_basic_credentials_with_an_empty_body_get_a_token(
    client: FlaskClient, services: Services, content_type: str | None
) -> None:
    credentials = create_client(services)
    body = token_body(client.post(TOKEN_PATH, auth=credentials, content_type=content_type))
    assert body["scope"].split() == sort_scopes(DEFAULT)
    scoped = client.post(TOKEN_PATH, query_string={"scope": ROSTER}, auth=credentials, content_type=content_type)
    assert token_body(scoped)["scope"] == ROSTER
    wrong = client.post(TOKEN_PATH, auth=(credentials[0], "wrong"), content_type=content_type)
    assert_oauth_error(wrong, 401, "invalid_client")


@pytest.mark.reading("C-03")
def test_other_requests_without_a_grant_type_are_rejected(client: FlaskClient, services: Services) -> None:
    credentials = create_client(services)
    form = {"client_id": credentials[0], "client_secret": credentials[1]}
    for response in (
        client.post(TOKEN_PATH),
        client.post(TOKEN_PATH, data=form),
        client.post(TOKEN_PATH, headers={"Authorization": "Bearer x"}),
        client.post(TOKEN_PATH, data={"scope": ROSTER}, auth=credentials),
        client.post(TOKEN_PATH, data={"grant_type": ""}, auth=credentials),
    ):
        assert_oauth_error(response, 400, "invalid_request")


def test_credentials_may_be_in_the_form(client: FlaskClient, services: Services) -> None:
    client_id, secret = create_client(services)
    token_body(client.post(TOKEN_PATH, data=GRANT | {"client_id": client_id, "client_secret": secret}))


def test_form_may_repeat_the_client_id_of_the_header(client: FlaskClient, services: Services) -> None:
    credentials = create_client(services)
    token_body(request_token(client, credentials, client_id=credentials[0]))
    assert_oauth_error(request_token(client, credentials, client_id="another"), 400, "invalid_request")


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_id_and_secret_are_url_decoded(client: FlaskClient, services: Services, scheme: str) -> None:
    encoded = ":".join("".join(f"%{ord(letter):02X}" for letter in text) for text in create_client(services))
    header = f"{scheme} {base64.b64encode(encoded.encode()).decode()}"
    token_body(client.post(TOKEN_PATH, data=GRANT, headers={"Authorization": header}))


def test_bearer_token_beside_form_credentials_is_ignored(client: FlaskClient, services: Services) -> None:
    client_id, secret = create_client(services)
    form = GRANT | {"client_id": client_id, "client_secret": secret}
    token_body(client.post(TOKEN_PATH, data=form, headers={"Authorization": "Bearer old"}))


def test_grant_type_and_scope_may_be_in_the_url(client: FlaskClient, services: Services) -> None:
    credentials = create_client(services)
    query = GRANT | {"scope": ROSTER}
    assert token_body(client.post(TOKEN_PATH, query_string=query, auth=credentials))["scope"] == ROSTER
    same = client.post(TOKEN_PATH, query_string=query, data=query, auth=credentials)
    assert token_body(same)["scope"] == ROSTER
    assert_oauth_error(
        client.post(TOKEN_PATH, query_string=GRANT, data={"grant_type": "password"}, auth=credentials),
        400,
        "invalid_request",
    )
    header = {"Content-Type": "application/json"}
    token_body(client.post(TOKEN_PATH, query_string=query, auth=credentials, headers=header))
