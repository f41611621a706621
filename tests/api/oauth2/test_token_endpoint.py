"""The token endpoint: what it gives, to whom, and how it refuses."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
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
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.keys import ec_key, key_set, rsa_key, signed

TOKEN = "/oauth/token"
GRANT = {"grant_type": "client_credentials"}
SITE = "http://localhost"


addresses = itertools.count(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    made = create_app(storage="memory:", data=str(tmp_path_factory.mktemp("data")))
    yield made
    services_of(made).login_log.close()
    services_of(made).store.close()


@pytest.fixture
def chalk(served: Flask) -> Services:
    return services_of(served)


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    """A client at an address of its own, so that the wrong guesses of others are not held against it."""
    found = served.test_client()
    found.environ_base["REMOTE_ADDR"] = f"10.0.{next(addresses) % 250}.1"
    return found


def made(chalk: Services, scopes: frozenset[str] = DEFAULT) -> tuple[str, str]:
    """The id and secret of a new client."""
    secret, record = chalk.clients.create("a platform", scopes)
    assert secret is not None
    return record.id, secret


def ask(client: FlaskClient, pair: tuple[str, str], path: str = TOKEN, **form: str) -> TestResponse:
    return client.post(path, data=GRANT | form, auth=pair)


def granted(answer: TestResponse) -> dict[str, Any]:
    """The token and what is said of it, in an answer that has all that RFC 6749 (section 5.1) asks for."""
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    body: dict[str, Any] = answer.json  # type: ignore[assignment]  # checked in the next line
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    return body


def refused(answer: TestResponse, status: int, error: str) -> None:
    """Asserts an error as RFC 6749 (section 5.2) has it."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert answer.json is not None
    assert answer.json["error"] == error
    assert set(answer.json) <= {"error", "error_description"}
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def reads(client: FlaskClient, token: str, path: str = "/orgs") -> int:
    return client.get(f"/ims/oneroster/v1p1{path}", headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("path", [*PATHS, TOKEN + "/"])
def test_token_is_issued_at_every_path_and_opens_the_api(client: FlaskClient, chalk: Services, path: str) -> None:
    token = granted(ask(client, made(chalk), path))["access_token"]
    assert reads(client, token) == 200
    assert reads(client, token, "/demographics") == 403


@pytest.mark.reading("C-01")
def test_paths_are_oauth_token_and_beside_both_roots() -> None:
    beside = {f"/{root}/oneroster{version}/token" for root in ("api", "ims") for version in ("", "/v1p1")}
    assert set(PATHS) == {TOKEN} | beside


def test_credentials_may_be_in_the_form(client: FlaskClient, chalk: Services) -> None:
    client_id, secret = made(chalk)
    granted(client.post(TOKEN, data=GRANT | {"client_id": client_id, "client_secret": secret}))


def test_form_may_repeat_the_client_id_of_the_header(client: FlaskClient, chalk: Services) -> None:
    pair = made(chalk)
    granted(ask(client, pair, client_id=pair[0]))
    refused(ask(client, pair, client_id="another"), 400, "invalid_request")


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_id_and_secret_are_url_decoded(client: FlaskClient, chalk: Services, scheme: str) -> None:
    encoded = ":".join("".join(f"%{ord(letter):02X}" for letter in text) for text in made(chalk))
    header = f"{scheme} {base64.b64encode(encoded.encode()).decode()}"
    granted(client.post(TOKEN, data=GRANT, headers={"Authorization": header}))


def test_bearer_token_beside_form_credentials_is_ignored(client: FlaskClient, chalk: Services) -> None:
    client_id, secret = made(chalk)
    form = GRANT | {"client_id": client_id, "client_secret": secret}
    granted(client.post(TOKEN, data=form, headers={"Authorization": "Bearer old"}))


def test_grant_type_and_scope_may_be_in_the_url(client: FlaskClient, chalk: Services) -> None:
    pair = made(chalk)
    query = GRANT | {"scope": ROSTER}
    assert granted(client.post(TOKEN, query_string=query, auth=pair))["scope"] == ROSTER
    same = client.post(TOKEN, query_string=query, data=query, auth=pair)
    assert granted(same)["scope"] == ROSTER
    refused(client.post(TOKEN, query_string=GRANT, data={"grant_type": "password"}, auth=pair), 400, "invalid_request")
    header = {"Content-Type": "application/json"}
    granted(client.post(TOKEN, query_string=query, auth=pair, headers=header))


# C-02
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
]


@pytest.mark.parametrize(("asked", "held", "given"), SCOPES)
def test_granted_scopes_are_issued_and_listed(
    client: FlaskClient, chalk: Services, asked: str, held: frozenset[str], given: list[str]
) -> None:
    body = granted(ask(client, made(chalk, held), scope=asked))
    assert body["scope"] == " ".join(given)
    grant, _ = chalk.authenticator.authenticate(body["access_token"])
    assert grant is not None
    assert grant.scopes == frozenset(given)


@pytest.mark.parametrize("asked", ["openid", DEMOGRAPHICS, f"{GRADEBOOK_WRITE} x", ROSTER.upper(), "\0", "x" * 20_000])
def test_only_unavailable_scopes_is_invalid_scope(client: FlaskClient, chalk: Services, asked: str) -> None:
    refused(ask(client, made(chalk), scope=asked), 400, "invalid_scope")


@pytest.mark.reading("C-05")
def test_token_ends_with_its_client_only(client: FlaskClient, chalk: Services) -> None:
    pair, other = made(chalk), made(chalk)
    tokens = [granted(ask(client, pair))["access_token"] for _ in range(3)]
    kept = granted(ask(client, other))["access_token"]
    assert [reads(client, token) for token in tokens] == [200] * 3
    chalk.clients.revoke(pair[0])
    assert [reads(client, token) for token in tokens] == [401] * 3
    refused(ask(client, pair), 401, "invalid_client")
    assert reads(client, kept) == 200


def test_rotated_and_previous_secret_are_valid(client: FlaskClient, chalk: Services) -> None:
    client_id, former = made(chalk)
    new, _ = chalk.clients.rotate(client_id, timedelta(hours=1))
    for secret in (former, new):
        granted(ask(client, (client_id, secret)))


def test_token_lifetime_is_a_setting(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path), token_seconds=120)
    answer = ask(app.test_client(), made(services_of(app)))
    assert answer.json is not None
    assert answer.json["expires_in"] == 120


def basic(text: str | bytes) -> dict[str, str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return {"Authorization": f"Basic {base64.b64encode(raw).decode()}"}


WRONG_HEADERS = {
    "none": {},
    "empty": {"Authorization": ""},
    "only a scheme": {"Authorization": "Basic"},
    "no base64": {"Authorization": "Basic !!!"},
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


def crowd(chalk: Services) -> dict[str, str]:
    """Clients of many kinds, by the names that the wrong headers have for them."""
    client_id, secret = made(chalk)
    revoked, revoked_secret = made(chalk)
    chalk.clients.revoke(revoked)
    tenant = f"north-{next(addresses)}"
    TenantStore(chalk.store).create(tenant)
    foreign_secret, foreign = chalk.clients.create("of the north", DEFAULT, tenant)
    TenantStore(chalk.store).delete(tenant)
    _, keyed = chalk.clients.create("with a key", DEFAULT, jwks=parse_public_keys(key_set(ec_key("a"))))
    both = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {
        "id": client_id, "secret": secret, "SECRET": secret.upper(), "revoked": revoked, "both": both,
        "revoked_secret": revoked_secret, "foreign": foreign.id, "foreign_secret": str(foreign_secret),
        "keyed": keyed.id,
    }  # fmt: skip


def filled(header: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """The header with the clients' ids and secrets in their places, also within base64."""
    text = header.get("Authorization", "")
    scheme, _, encoded = text.partition(" ")
    with suppress(ValueError):
        inner = base64.b64decode(encoded, validate=True)
        for name, value in names.items():
            inner = inner.replace(b"{%s}" % name.encode(), value.encode())
        return {"Authorization": f"{scheme} {base64.b64encode(inner).decode()}"} if text else {}
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return {"Authorization": text}


@pytest.mark.parametrize("header", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_invalid_credentials_are_all_rejected_alike(
    client: FlaskClient, chalk: Services, header: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    names = crowd(chalk)
    with caplog.at_level(logging.DEBUG):
        answer = client.post(TOKEN, data=GRANT, headers=filled(header, names))
    refused(answer, 401, "invalid_client")
    spoken = caplog.text + answer.text
    assert not any(names[secret] in spoken for secret in ("secret", "revoked_secret", "foreign_secret", "both"))


@pytest.mark.parametrize(
    "form", [{"client_id": "{id}"}, {"client_secret": "{secret}"}, {"client_id": "{id}", "client_secret": "wrong"},
             {"client_id": "nobody", "client_secret": "{secret}"}, {"client_id": "", "client_secret": ""},
             {"client_id": "x" * 20_000, "client_secret": "x" * 20_000}],
    ids=lambda form: str(form)[:60],
)  # fmt: skip
def test_invalid_credentials_in_the_form_are_rejected(
    client: FlaskClient, chalk: Services, form: dict[str, str]
) -> None:
    names = crowd(chalk)
    given = {
        name: value.replace("{id}", names["id"]).replace("{secret}", names["secret"]) for name, value in form.items()
    }
    refused(client.post(TOKEN, data=GRANT | given), 401, "invalid_client")


@pytest.mark.reading("C-06")
def test_response_does_not_reveal_if_a_client_exists(client: FlaskClient, chalk: Services) -> None:
    client_id, _ = made(chalk)
    known, unknown = (ask(client, (name, "wrong")) for name in (client_id, "chk_client_0123456789abcdef"))
    assert (known.status_code, known.data, list(known.headers)) == (
        unknown.status_code, unknown.data, list(unknown.headers),
    )  # fmt: skip


@pytest.mark.reading("C-03")
def test_credentials_in_the_url_are_rejected(client: FlaskClient, chalk: Services) -> None:
    client_id, secret = made(chalk)
    both = {"client_id": client_id, "client_secret": secret}
    for query in (both, {"client_id": client_id}, {"client_secret": secret}, {"client_assertion": "x"}):
        refused(client.post(TOKEN, query_string=GRANT | query, data=both), 400, "invalid_request")


def test_two_kinds_of_credentials_are_rejected(client: FlaskClient, chalk: Services) -> None:
    pair = made(chalk)
    form = {"client_id": pair[0], "client_secret": pair[1]}
    assertion = {"client_assertion": "x", "client_assertion_type": JWT_BEARER}
    for given in (form, assertion):
        refused(ask(client, pair, **given), 400, "invalid_request")
    refused(client.post(TOKEN, data=GRANT | form | assertion), 400, "invalid_request")


@pytest.mark.parametrize("name", ["grant_type", "scope", "client_id", "client_secret", "client_assertion"])
def test_repeated_token_parameter_is_rejected(client: FlaskClient, chalk: Services, name: str) -> None:
    pair = made(chalk)
    form = {"grant_type": ["client_credentials"], "scope": [ROSTER]} | {
        name: ["client_credentials", "client_credentials"]
    }
    refused(client.post(TOKEN, data=form, auth=pair), 400, "invalid_request")
    refused(client.post(TOKEN, query_string=form, auth=pair), 400, "invalid_request")


@pytest.mark.parametrize(
    ("grant_type", "error"),
    [("", "invalid_request"), ("password", "unsupported_grant_type"), ("x" * 50_000, "unsupported_grant_type"),
     ("refresh_token", "unsupported_grant_type"), ("CLIENT_CREDENTIALS", "unsupported_grant_type"),
     ('"\\\0é\r\n', "unsupported_grant_type")],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_other_grant_types_are_rejected(client: FlaskClient, chalk: Services, grant_type: str, error: str) -> None:
    answer = ask(client, made(chalk), grant_type=grant_type)
    refused(answer, 400, error)
    assert not grant_type or grant_type not in answer.text


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
def test_body_that_is_not_a_form_is_rejected(client: FlaskClient, chalk: Services, kind: str, body: bytes) -> None:
    answer = client.post(TOKEN, data=body, content_type=kind, auth=made(chalk))
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_than_post_are_405(client: FlaskClient, method: str) -> None:
    for path in PATHS:
        answer = client.open(path, method=method)
        refused(answer, 405, "invalid_request")
        assert answer.headers["Allow"] == "POST"


def keyed(chalk: Services) -> str:
    return chalk.clients.create("signs", DEFAULT, jwks=parse_public_keys(key_set(rsa_key("a"), ec_key("a"))))[1].id


def assertion(client_id: str, **claims: Any) -> str:
    now = int(time.time())
    usual: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": SITE + TOKEN,
        "exp": now + 60,
        "jti": str(uuid.uuid4()),
    }
    return signed(ec_key("a"), **(usual | claims))


def ask_signed(client: FlaskClient, text: str, kind: str = JWT_BEARER, **form: str) -> TestResponse:
    return client.post(TOKEN, data=GRANT | {"client_assertion": text, "client_assertion_type": kind} | form)


@pytest.mark.parametrize("path", PATHS)
def test_client_with_a_key_logs_in_with_an_assertion(client: FlaskClient, chalk: Services, path: str) -> None:
    client_id = keyed(chalk)
    body = granted(ask_signed(client, assertion(client_id, aud=SITE + path), scope=ROSTER))
    assert body["scope"] == ROSTER
    assert reads(client, body["access_token"]) == 200


def test_audience_of_an_assertion_is_the_public_url(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path), public_url="https://roster.example.org/x")
    client_id = keyed(services_of(app))
    there = assertion(client_id, aud="https://roster.example.org/x" + TOKEN)
    granted(ask_signed(app.test_client(), there))
    refused(ask_signed(app.test_client(), assertion(client_id)), 401, "invalid_client")


@pytest.mark.reading("C-04")
def test_assertion_is_accepted_once(client: FlaskClient, chalk: Services) -> None:
    text = assertion(keyed(chalk))
    granted(ask_signed(client, text))
    refused(ask_signed(client, text), 401, "invalid_client")


def test_invalid_assertions_are_invalid_client(client: FlaskClient, chalk: Services) -> None:
    client_id, now = keyed(chalk), int(time.time())
    wrong = [
        "x", "a.b.c", "x" * 30_000, assertion("chk_client_0123456789abcdef"), assertion(made(chalk)[0]),
        assertion(client_id, exp=now - 61), assertion(client_id, exp=now + 3700), assertion(client_id, iat=now + 99),
        assertion(client_id, aud="https://elsewhere.example.org"), assertion(client_id, jti=None),
        jwt.encode({"alg": "ES256"}, {"sub": client_id}, ec_key("b")),
    ]  # fmt: skip
    for text in wrong:
        refused(ask_signed(client, text), 401, "invalid_client")
    refused(ask_signed(client, assertion(client_id), "urn:other"), 401, "invalid_client")
    refused(ask_signed(client, assertion(client_id), ""), 401, "invalid_client")
    refused(ask_signed(client, assertion(client_id), client_id="another"), 401, "invalid_client")
    granted(ask_signed(client, assertion(client_id), client_id=client_id))


def test_no_token_is_logged(client: FlaskClient, chalk: Services, caplog: pytest.LogCaptureFixture) -> None:
    pair = made(chalk)
    with caplog.at_level(logging.DEBUG):
        token = granted(ask(client, pair))["access_token"]
    assert token not in caplog.text
    assert pair[1] not in caplog.text


def test_unusable_key_file_is_a_logged_server_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "access-tokens.key").write_text("spoilt")
    app = create_app(storage="memory:", data=str(tmp_path))
    answer = ask(app.test_client(), made(services_of(app)))
    assert (answer.status_code, answer.content_type) == (500, "application/json")
    assert answer.json is not None
    assert answer.json["error"] == "server_error"
    assert "access-tokens.key holds no key of this service" in caplog.text
    assert "spoilt" not in caplog.text


def test_token_takes_less_than_five_milliseconds(client: FlaskClient, chalk: Services) -> None:
    pair = made(chalk)

    def timed() -> float:
        start = time.process_time()
        for _ in range(20):
            granted(ask(client, pair))
        return (time.process_time() - start) / 20

    assert min(timed() for _ in range(5)) < 5e-3
