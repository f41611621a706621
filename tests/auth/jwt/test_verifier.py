"""JWTs of trusted issuers: accepted for the tenant, the time and the scopes that they are valid for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError

from backends import Backend, StorageUnavailableError
from backends.memory.backend import MemoryBackend
from chalk_flask.auth.jwt import signed_token
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.jwt.verifier import MAX_LIFETIME_SECONDS, MAX_TOKEN_LENGTH, JwtVerifier
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT, DEMOGRAPHICS, GRADEBOOK, ROSTER, ROSTER_CORE
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import COLLECTION as TENANTS
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.auth.conftest import count_calls, wait_until
from tests.support.clock import FakeClock
from tests.support.keys import AUDIENCE, ec_key, make_jwks, rsa_key, serve_jwks, sign_jwt, trust_issuer

OLD, NEW, CURVE = rsa_key("old"), rsa_key("new"), ec_key("curve")
START = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
NOW = int(START.timestamp())
OTHER_ISSUER = "https://other.example.org"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


def sign_at_start(**claims: Any) -> str:
    """Return a token that is valid for ten minutes from START."""
    return sign_jwt(OLD, **({"iat": NOW, "exp": NOW + 600} | claims))


def principal_of(verifier: JwtVerifier, token: str) -> Principal | None:
    return verifier.authenticate(token)[0]


def scopes_of(principal: Principal | None) -> frozenset[str]:
    assert principal is not None
    return principal.scopes


@pytest.mark.every_backend
def test_token_has_the_tenant_and_restrictions_of_its_issuer(store: Backend) -> None:
    restrictions = AccessRestrictions(orgs=frozenset({"north"}))
    issuer = trust_issuer(store, restrictions=restrictions)
    principal, version = JwtVerifier(store).authenticate(sign_jwt(OLD))
    assert principal == Principal("default", DEFAULT, issuer.id, restrictions, credential_type="issuer")
    assert version == store.version(CONTROL)


def test_tenant_without_opt_in_denies_demographics(store: Backend) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    trust_issuer(store, tenant="north", scopes={DEMOGRAPHICS})
    verifier, token = JwtVerifier(store), sign_jwt(OLD)
    principal = principal_of(verifier, token)
    assert principal is not None
    assert "demographics" in principal.restrictions.denied
    tenants.update("north", demographics=True)
    principal = principal_of(verifier, token)
    assert principal is not None
    assert principal.restrictions.denied == frozenset()
    tenants.delete("north")
    assert principal_of(verifier, token) is None


@pytest.mark.reading("J-01")
@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        (f"{ROSTER} {DEMOGRAPHICS}", {ROSTER}),
        ([ROSTER, GRADEBOOK], {ROSTER}),
        (ROSTER_CORE, {ROSTER_CORE}),
        ("roster.readonly roster-demographics.readonly", {ROSTER}),
        (["roster-core.readonly", "roster.readonly.x"], {ROSTER_CORE}),
        ("openid unknown", set()),
        (DEMOGRAPHICS, set()),
        ("", set()),
        ([], set()),
    ],
)
def test_token_has_the_requested_scopes_that_its_issuer_has(scope: object, scopes: set[str], store: Backend) -> None:
    trust_issuer(store, scopes={ROSTER})
    assert scopes_of(principal_of(JwtVerifier(store), sign_jwt(OLD, scope=scope))) == scopes


@pytest.mark.reading("J-01")
def test_token_without_a_scope_has_all_scopes_of_its_issuer(store: Backend) -> None:
    trust_issuer(store, scopes={ROSTER, GRADEBOOK})
    assert scopes_of(principal_of(JwtVerifier(store), sign_jwt(OLD))) == {ROSTER, GRADEBOOK}


@pytest.mark.parametrize("scope", [7, {"a": "b"}, [7], True])
def test_scope_of_another_type_is_rejected(scope: object, store: Backend) -> None:
    trust_issuer(store)
    assert principal_of(JwtVerifier(store), sign_jwt(OLD, scope=scope)) is None


@pytest.mark.reading("J-02")
@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({"exp": NOW - 59, "iat": NOW - 600}, True),
        ({"exp": NOW - 60, "iat": NOW - 600}, False),
        ({"nbf": NOW + 59}, True),
        ({"nbf": NOW + 61}, False),
        ({"iat": NOW + 59}, True),
        ({"iat": NOW + 61}, False),
        ({"exp": NOW + MAX_LIFETIME_SECONDS}, True),
        ({"exp": NOW + MAX_LIFETIME_SECONDS + 1}, False),
        ({"iat": NOW + 50, "exp": NOW + 50}, False),
        ({"exp": NOW + 600.5, "iat": NOW + 0.5}, True),
        ({"exp": str(NOW + 600)}, False),
        ({"exp": True}, False),
        ({"exp": 10**400}, False),
        ({"iat": -(10**18)}, False),
        ({"nbf": "now"}, False),
        ({"jti": 7}, True),
        ({"sub": None, "anything": {"deep": [1]}}, True),
    ],
)
def test_times_are_checked_with_a_leeway_of_a_minute(
    changes: dict[str, Any], valid: bool, store: Backend, clock: FakeClock
) -> None:
    trust_issuer(store)
    assert (principal_of(JwtVerifier(store, clock), sign_at_start(**changes)) is not None) is valid


@pytest.mark.parametrize("missing", ["iss", "aud", "exp", "iat"])
def test_token_without_a_required_claim_is_rejected(missing: str, store: Backend) -> None:
    trust_issuer(store)
    assert principal_of(JwtVerifier(store), sign_jwt(OLD, **{missing: None})) is None


@pytest.mark.reading("J-02")
def test_cached_token_ends_when_it_expires(store: Backend, clock: FakeClock) -> None:
    trust_issuer(store)
    verifier, token = JwtVerifier(store, clock), sign_at_start(exp=NOW + 10)
    assert principal_of(verifier, token)
    clock.advance(69)
    assert principal_of(verifier, token)
    clock.advance(1)
    assert principal_of(verifier, token) is None


@pytest.mark.parametrize(
    ("aud", "valid"),
    [
        (AUDIENCE, True),
        ([AUDIENCE], True),
        (["https://else.example.org", AUDIENCE], True),
        ("https://else.example.org", False),
        (AUDIENCE + "/", False),
        (AUDIENCE.upper(), False),
        ([], False),
        ("", False),
        ([AUDIENCE, 7], False),
        (7, False),
        ({AUDIENCE: 1}, False),
    ],
)
def test_audience_must_match_exactly(aud: object, valid: bool, store: Backend) -> None:
    trust_issuer(store)
    assert (principal_of(JwtVerifier(store), sign_jwt(OLD, aud=aud)) is not None) is valid


@pytest.mark.reading("J-03")
def test_token_for_the_audiences_of_two_tenants_is_rejected(store: Backend) -> None:
    trust_issuer(store)
    trust_issuer(store, audience="urn:second")
    assert principal_of(JwtVerifier(store), sign_jwt(OLD, aud="urn:second"))
    assert principal_of(JwtVerifier(store), sign_jwt(OLD, aud=[AUDIENCE, "urn:second"])) is None


def test_key_of_another_issuer_is_rejected(store: Backend) -> None:
    trust_issuer(store)
    trust_issuer(store, issuer=OTHER_ISSUER, jwks=make_jwks(NEW))
    assert principal_of(JwtVerifier(store), sign_jwt(NEW, {"kid": "old"})) is None
    assert principal_of(JwtVerifier(store), sign_jwt(NEW)) is None
    assert principal_of(JwtVerifier(store), sign_jwt(NEW, iss=OTHER_ISSUER))


def test_token_without_kid_is_verified_with_each_key_of_its_algorithm(store: Backend) -> None:
    trust_issuer(store, jwks=make_jwks(NEW, OLD, CURVE))
    verifier = JwtVerifier(store)
    assert principal_of(verifier, sign_jwt(OLD, {"kid": None}))
    assert principal_of(verifier, sign_jwt(CURVE, {"kid": None}))
    assert principal_of(verifier, sign_jwt(rsa_key("foreign"), {"kid": None})) is None


def test_key_without_kid_verifies_tokens_with_one(store: Backend) -> None:
    nameless = {name: value for name, value in OLD.as_dict(private=False).items() if name != "kid"}
    trust_issuer(store, jwks=json.dumps({"keys": [nameless, NEW.as_dict(private=False)]}).encode())
    verifier = JwtVerifier(store)
    assert principal_of(verifier, sign_jwt(OLD))
    assert principal_of(verifier, sign_jwt(NEW))
    assert principal_of(verifier, sign_jwt(rsa_key("foreign"), {"kid": "old"})) is None


def test_token_of_a_deleted_tenant_is_rejected(store: Backend) -> None:
    TenantStore(store).create("north")
    trust_issuer(store, tenant="north")
    with store.write(CONTROL) as control:
        control.delete(TENANTS, ["north"])
    assert principal_of(JwtVerifier(store), sign_jwt(OLD)) is None


@pytest.mark.every_backend
def test_removing_an_issuer_ends_cached_tokens(store: Backend) -> None:
    issuer = trust_issuer(store)
    verifier, token = JwtVerifier(store), sign_jwt(OLD)
    assert principal_of(verifier, token)
    IssuerStore(store).remove(issuer.id)
    assert principal_of(verifier, token) is None


def test_withdrawing_a_key_ends_cached_tokens(store: Backend) -> None:
    with serve_jwks(OLD) as server:
        trust_issuer(store, jwks=None, jwks_url=server.url)
        verifier, token, new_token = JwtVerifier(store), sign_jwt(OLD), sign_jwt(NEW)
        assert wait_until(lambda: principal_of(verifier, token) is not None)
        server.body = make_jwks(NEW)
        assert principal_of(verifier, token)
        assert principal_of(verifier, new_token) is None, "its kid is unknown, so keys are fetched in the background"
        assert wait_until(lambda: principal_of(verifier, new_token) is not None)
        assert principal_of(verifier, token) is None
        assert server.request_count == 2


@pytest.mark.parametrize("error", [RuntimeError, JoseError, ValueError, TypeError, UnsupportedAlgorithm])
def test_signature_check_that_raises_rejects_the_token(
    store: Backend, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise error("of the library")

    trust_issuer(store)
    monkeypatch.setattr(signed_token, "validate_compact", fail)
    assert principal_of(JwtVerifier(store), sign_jwt(OLD)) is None


def test_keys_are_fetched_before_the_first_token(store: Backend) -> None:
    with serve_jwks(OLD) as server:
        verifier = JwtVerifier(store)
        with closing(verifier):
            verifier.start()
            trust_issuer(store, jwks=None, jwks_url=server.url)
            assert wait_until(lambda: server.request_count == 1)
            assert wait_until(lambda: principal_of(verifier, sign_jwt(OLD)) is not None)
        assert server.request_count == 1


def test_refresh_goes_on_after_a_failure_of_the_store(store: Backend, caplog: pytest.LogCaptureFixture) -> None:
    class FailingBackend(MemoryBackend):
        is_failing = True

        def version(self, tenant: str) -> object:
            if self.is_failing:
                raise StorageUnavailableError("the disk is gone")
            return super().version(tenant)

    failing = FailingBackend.open("memory:", COLLECTIONS)
    with serve_jwks(OLD) as server, closing(JwtVerifier(failing)) as verifier:
        verifier.start()
        assert wait_until(lambda: "the disk is gone" in caplog.text)
        failing.is_failing = False
        trust_issuer(failing, jwks=None, jwks_url=server.url)
        assert wait_until(lambda: server.request_count == 1)


@pytest.mark.reading("J-04")
def test_single_use_issuer_accepts_each_token_once(store: Backend, clock: FakeClock) -> None:
    trust_issuer(store, single_use=True)
    trust_issuer(store, issuer=OTHER_ISSUER, single_use=True)
    verifier = JwtVerifier(store, clock)
    token = sign_at_start(jti="one")
    assert principal_of(verifier, token)
    assert principal_of(verifier, token) is None
    assert principal_of(verifier, sign_at_start(jti="one", sub="another token")) is None
    assert principal_of(verifier, sign_at_start(jti="two"))
    assert principal_of(verifier, sign_at_start(iss=OTHER_ISSUER, jti="one")), "each issuer has ids of its own"
    for nameless in (sign_at_start(), sign_at_start(jti=""), sign_at_start(jti=7)):
        assert principal_of(verifier, nameless) is None


@pytest.mark.reading("J-04")
def test_single_use_token_is_accepted_once_by_many_threads(store: Backend) -> None:
    trust_issuer(store, single_use=True)
    verifier, token = JwtVerifier(store), sign_jwt(OLD, jti="one")
    with ThreadPoolExecutor(8) as threads:
        accepted = list(threads.map(lambda _: principal_of(verifier, token) is not None, range(40)))
    assert accepted.count(True) == 1


@pytest.mark.reading("J-04")
def test_rejected_token_uses_up_no_jti(store: Backend) -> None:
    trust_issuer(store, single_use=True)
    verifier = JwtVerifier(store)
    assert principal_of(verifier, sign_jwt(NEW, {"kid": "old"}, jti="one")) is None
    assert principal_of(verifier, sign_jwt(OLD, jti="one"))


@pytest.mark.parametrize(
    ("token", "recognized"),
    [
        ("a.b.c", True),
        ("a.b.", True),
        ("chk_live_" + "0" * 40, False),
        ("a.b", False),
        ("a.b.c.d", False),
        ("a..c", False),
        ("a.b.c=", False),
        ("a.b.ç", False),
        ("a.b.c\n", False),
        ("", False),
        ("a." + "b" * MAX_TOKEN_LENGTH + ".c", False),
    ],
)
def test_jwt_is_recognized_by_its_shape(token: str, recognized: bool, store: Backend) -> None:
    assert JwtVerifier(store).can_verify(token) is recognized


@pytest.mark.on_backend("sqlite")
def test_cached_token_is_authenticated_in_few_calls(store: Backend) -> None:
    trust_issuer(store)
    verifier, token = JwtVerifier(store), sign_jwt(OLD)
    assert principal_of(verifier, token)
    assert count_calls(lambda: (verifier.can_verify(token), verifier.authenticate(token))) < 100
