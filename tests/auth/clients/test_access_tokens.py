"""Access tokens: signed and not stored, valid until they expire or their client ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from backends import Backend
from chalk_flask.auth.clients import access_tokens
from chalk_flask.auth.clients.access_tokens import ISSUER, AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT, DEMOGRAPHICS, GRADEBOOK, ROSTER, ROSTER_CORE
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.auth.conftest import count_calls
from tests.support.clock import FakeClock
from tests.support.keys import ec_key, sign_jwt


@pytest.fixture
def clients(store: Backend, clock: FakeClock) -> ClientStore:
    return ClientStore(store, clock)


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "key")


@pytest.fixture
def issuer(clients: ClientStore, key_file: KeyFile, clock: FakeClock) -> AccessTokenIssuer:
    return AccessTokenIssuer(clients, key_file, 3600, clock)


def create_client(
    clients: ClientStore, tenant: str = "default", restrictions: AccessRestrictions = NO_RESTRICTIONS
) -> str:
    return clients.create("a platform", DEFAULT, tenant, restrictions=restrictions)[1].id


def principal_of(issuer: AccessTokenIssuer, token: str) -> Principal | None:
    return issuer.authenticate(token)[0]


@pytest.mark.parametrize("error", [RuntimeError, JoseError, ValueError, TypeError, UnsupportedAlgorithm])
def test_signature_check_that_raises_rejects_the_token(
    issuer: AccessTokenIssuer, clients: ClientStore, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("of the library")

    token = issuer.issue(create_client(clients), "default", DEFAULT)
    monkeypatch.setattr(jwt, "decode", fail)
    assert principal_of(issuer, token) is None


@pytest.mark.every_backend
def test_token_has_the_tenant_and_restrictions_of_its_client(issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    restrictions = AccessRestrictions(orgs=frozenset({"o-1"}))
    client_id = create_client(clients, restrictions=restrictions)
    token = issuer.issue(client_id, "default", frozenset({ROSTER}))
    assert issuer.can_verify(token)
    for _ in range(2):
        expected = Principal("default", frozenset({ROSTER}), client_id, restrictions, "client")
        assert principal_of(issuer, token) == expected


def test_tokens_differ_and_all_are_valid(issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    client_id = create_client(clients)
    tokens = {issuer.issue(client_id, "default", DEFAULT) for _ in range(20)}
    assert len(tokens) == 20
    assert all(principal_of(issuer, token) for token in tokens)


def test_token_has_no_scope_that_its_client_lacks(issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    token = issuer.issue(create_client(clients), "default", frozenset({ROSTER_CORE, DEMOGRAPHICS, GRADEBOOK}))
    principal = principal_of(issuer, token)
    assert principal is not None
    assert principal.scopes == {ROSTER_CORE, GRADEBOOK}


def test_token_ends_when_it_expires(issuer: AccessTokenIssuer, clients: ClientStore, clock: FakeClock) -> None:
    token = issuer.issue(create_client(clients), "default", DEFAULT)
    clock.advance(3599)
    assert principal_of(issuer, token)
    clock.advance(1)
    assert principal_of(issuer, token) is None, "the cache does not extend it"
    assert principal_of(AccessTokenIssuer(clients, issuer._key_file, 3600, clock), token) is None


@pytest.mark.every_backend
def test_token_ends_with_its_client_in_every_process(store: Backend, key_file: KeyFile) -> None:
    here, there = (AccessTokenIssuer(ClientStore(store), key_file) for _ in range(2))
    clients = ClientStore(store)
    client_id = create_client(clients)
    token = here.issue(client_id, "default", DEFAULT)
    assert principal_of(here, token)
    assert principal_of(there, token)
    clients.revoke(client_id)
    assert principal_of(here, token) is None
    assert principal_of(there, token) is None


def test_token_ends_with_its_tenant(store: Backend, issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    TenantStore(store).create("north")
    token = issuer.issue(create_client(clients, "north"), "north", DEFAULT)
    assert principal_of(issuer, token)
    TenantStore(store).delete("north")
    assert principal_of(issuer, token) is None


def test_token_for_another_tenant_is_rejected(store: Backend, issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    TenantStore(store).create("north")
    assert principal_of(issuer, issuer.issue(create_client(clients), "north", DEFAULT)) is None


def test_tenant_without_opt_in_denies_demographics(
    store: Backend, issuer: AccessTokenIssuer, clients: ClientStore
) -> None:
    TenantStore(store).create("north")
    principal = principal_of(issuer, issuer.issue(create_client(clients, "north"), "north", DEFAULT))
    assert principal is not None
    assert "demographics" in principal.restrictions.denied


Forge = Callable[[dict[str, Any], bytes], str]


def encode_part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def sign_with(key: bytes, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(key))


FORGED: dict[str, Forge] = {
    "other key": lambda claims, key: sign_with(bytes(32), claims),
    "no signature": lambda claims, key: f"{encode_part({'alg': 'none'})}.{encode_part(claims)}.",
    "short signature": lambda claims, key: sign_with(key, claims)[:-4],
    "other algorithm": lambda claims, key: jwt.encode({"alg": "HS512"}, claims, OctKey.import_key(key), ["HS512"]),
    "key in header": lambda claims, key: sign_jwt(ec_key("own"), {"jwk": ec_key("own").as_dict()}, **claims),
    "no expiry": lambda claims, key: sign_with(key, {**claims, "exp": None}),
    "text expiry": lambda claims, key: sign_with(key, {**claims, "exp": "tomorrow"}),
    "NaN expiry": lambda claims, key: sign_with(key, {**claims, "exp": float("nan")}),
    "numeric scopes": lambda claims, key: sign_with(key, {**claims, "scopes": 1}),
    "list scopes": lambda claims, key: sign_with(key, {**claims, "scopes": [[]]}),
    "list client": lambda claims, key: sign_with(key, {**claims, "client": ["x"]}),
    "unknown client": lambda claims, key: sign_with(key, {**claims, "client": "unknown"}),
    "other issuer": lambda claims, key: sign_with(key, {**claims, "iss": "https://tool.example.org"}),
    "list claims": lambda claims, key: f"{encode_part({'alg': 'HS256'})}.{encode_part([claims])}.x",
    "nested claims": lambda claims, key: f"{encode_part({'alg': 'HS256'})}.{encode_part('[' * 2000)}.x",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_token_is_rejected(
    issuer: AccessTokenIssuer, clients: ClientStore, key_file: KeyFile, clock: FakeClock, forge: Forge
) -> None:
    claims = {
        "iss": ISSUER,
        "tenant": "default",
        "client": create_client(clients),
        "scopes": [ROSTER],
        "exp": int(clock.time()) + 60,
    }
    key = key_file.read_or_create()
    assert principal_of(issuer, sign_with(key, claims)), "the claims are valid before they are forged"
    assert principal_of(issuer, forge(claims, key)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b.c",
        "chk_live_x",
        f"x.{encode_part({'iss': 'https://tool.example.org'})}.x",
        f"x.{encode_part('x')}.x",
        f"x.{encode_part({'iss': ISSUER})}",
        f"x.{encode_part({'iss': ISSUER})}.x.x",
        "é.é.é",
        f"x.{encode_part({'iss': ISSUER, 'pad': 'x' * 9000})}.x",
    ],
)
def test_other_text_cannot_be_verified(issuer: AccessTokenIssuer, text: str) -> None:
    assert not issuer.can_verify(text)
    assert principal_of(issuer, text) is None


def test_issuing_a_token_stores_nothing(store: Backend, issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    client_id = create_client(clients)
    before = store.version(CONTROL)
    token = issuer.issue(client_id, "default", DEFAULT)
    assert principal_of(issuer, token)
    assert store.version(CONTROL) == before
    assert token not in repr(vars(issuer))


def test_cache_of_tokens_is_bounded(clients: ClientStore, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "MAX_CACHED_TOKENS", 5)
    issuer = AccessTokenIssuer(clients, key_file)
    client_id = create_client(clients)
    for _ in range(10):
        assert principal_of(issuer, issuer.issue(client_id, "default", frozenset({ROSTER})))
    assert len(issuer._cache) == 5


@pytest.mark.on_backend("sqlite")
def test_cached_token_is_authenticated_in_few_calls(issuer: AccessTokenIssuer, clients: ClientStore) -> None:
    token = issuer.issue(create_client(clients), "default", DEFAULT)
    assert principal_of(issuer, token)
    assert count_calls(lambda: (issuer.can_verify(token), issuer.authenticate(token))) < 100


def test_tokens_end_when_the_key_is_deleted_or_replaced(clients: ClientStore, tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    client_id = create_client(clients)
    issuer, reader = (AccessTokenIssuer(clients, KeyFile(path)) for _ in range(2))
    token = issuer.issue(client_id, "default", DEFAULT)
    assert principal_of(reader, token)
    path.unlink()
    assert principal_of(reader, token) is None
    new_token = issuer.issue(client_id, "default", DEFAULT)
    assert principal_of(reader, token) is None
    assert principal_of(reader, new_token)
