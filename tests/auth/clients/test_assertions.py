"""Client assertions: an OAuth client with a key authenticates once with each signed assertion."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

from backends import Backend
from chalk_flask.auth.clients.assertions import ClientAssertionVerifier, parse_public_keys, unverified_client_id
from chalk_flask.auth.clients.store import ClientError, ClientStore
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.permissions.scopes import DEFAULT
from tests.support.clock import FakeClock
from tests.support.keys import ec_key, make_jwks, rsa_key

START = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
NOW = int(START.timestamp())
AUDIENCE = "https://roster.example.org/oauth/token"
OTHER_AUDIENCE = f"{AUDIENCE}/other"
OTHER_CLIENT = "chk_client_0123456789abcdef"


class Service:
    """Client store and assertion verifier with one clock."""

    def __init__(self, store: Backend) -> None:
        self.clock = FakeClock(START)
        self.clients = ClientStore(store, self.clock)
        self.verifier = ClientAssertionVerifier(self.clients, self.clock)

    def create_client(self, *keys: RSAKey | ECKey) -> str:
        """Return the id of a new client with these keys."""
        return self.clients.create("signs", DEFAULT, jwks=parse_public_keys(make_jwks(*keys)))[1].id

    def authenticate(self, assertion: str, *audiences: str) -> str | None:
        """Return the id of the client that signed the assertion."""
        client = self.verifier.authenticate(assertion, audiences or [AUDIENCE])
        return client.id if client is not None else None


@pytest.fixture
def service(store: Backend) -> Service:
    return Service(store)


def make_claims(client_id: str, **changes: Any) -> dict[str, Any]:
    """Return claims that are valid for five minutes, with these changes; None removes a claim."""
    usual = {
        "iss": client_id,
        "sub": client_id,
        "aud": AUDIENCE,
        "iat": NOW,
        "exp": NOW + 300,
        "jti": str(uuid.uuid4()),
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def sign(key: RSAKey | ECKey, claims: dict[str, Any], **header: Any) -> str:
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    return jwt.encode({"alg": algorithm, **header}, claims, key)


@pytest.mark.parametrize("key", [rsa_key("a"), ec_key("a")], ids=["RS256", "ES256"])
@pytest.mark.parametrize("header", [{}, {"kid": "a"}, {"kid": "another name"}], ids=str)
def test_client_is_authenticated_by_its_signature(
    service: Service, key: RSAKey | ECKey, header: dict[str, str]
) -> None:
    client_id = service.create_client(key)
    assert service.authenticate(sign(key, make_claims(client_id), **header)) == client_id


def test_each_key_of_a_client_is_accepted(service: Service) -> None:
    keys: list[RSAKey | ECKey] = [rsa_key("a"), ec_key("a"), rsa_key("b"), ec_key("b")]
    client_id = service.create_client(*keys)
    assert all(service.authenticate(sign(key, make_claims(client_id))) == client_id for key in keys)


@pytest.mark.parametrize("aud", [AUDIENCE, ["https://elsewhere.example.org", AUDIENCE]], ids=str)
def test_audience_must_be_one_of_the_token_endpoints(service: Service, aud: object) -> None:
    client_id = service.create_client(ec_key("a"))
    assertion = sign(ec_key("a"), make_claims(client_id, aud=aud))
    assert service.authenticate(assertion, OTHER_AUDIENCE, AUDIENCE) == client_id


@pytest.mark.parametrize(
    "changes",
    [{"exp": NOW - 59}, {"exp": NOW + 3660}, {"iat": NOW + 60}, {"nbf": NOW + 60}, {"iat": None}, {"iat": NOW - 9999}],
    ids=str,
)
def test_clocks_may_differ_by_a_minute(service: Service, changes: dict[str, Any]) -> None:
    client_id = service.create_client(ec_key("a"))
    assert service.authenticate(sign(ec_key("a"), make_claims(client_id, **changes))) == client_id


@pytest.mark.parametrize("error", [RuntimeError, JoseError, ValueError, TypeError, UnsupportedAlgorithm])
def test_signature_check_that_raises_rejects_the_assertion(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("of the library")

    client_id = service.create_client(ec_key("a"))
    monkeypatch.setattr(jws, "deserialize_compact", fail)
    assert service.authenticate(sign(ec_key("a"), make_claims(client_id))) is None


INVALID_CLAIMS: dict[str, list[Any]] = {
    "exp": [None, NOW - 60, NOW + 3661, 1e300, "1", True, [NOW], 10**400],
    "iat": [NOW + 61, "now"],
    "nbf": [NOW + 61, "now"],
    "aud": [None, OTHER_AUDIENCE, [], [OTHER_AUDIENCE], AUDIENCE + "/", 1, {AUDIENCE: 1}, [[AUDIENCE]]],
    "iss": [None, OTHER_CLIENT, []],
    "sub": [None, OTHER_CLIENT, 1, ""],
    "jti": [None, "", 1, "x" * 257],
}


@pytest.mark.parametrize(
    "changes",
    [{name: value} for name, values in INVALID_CLAIMS.items() for value in values],
    ids=lambda changes: str(changes)[:60],
)
def test_invalid_claims_are_rejected(service: Service, changes: dict[str, Any]) -> None:
    client_id = service.create_client(ec_key("a"))
    assert service.authenticate(sign(ec_key("a"), make_claims(client_id, **changes))) is None


def encode_part(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def join_unsigned(header: str, claims: str) -> str:
    return f"{encode_part(header)}.{encode_part(claims)}.x"


def without_signature(algorithm: str, claims: dict[str, Any]) -> str:
    return join_unsigned(json.dumps({"alg": algorithm}), json.dumps(claims)).removesuffix("x")


def with_public_key_as_secret(claims: dict[str, Any], public_key: bytes) -> str:
    """Return an HS256 token whose secret is a public key (algorithm confusion)."""
    text = join_unsigned(json.dumps({"alg": "HS256"}), json.dumps(claims)).removesuffix(".x")
    return f"{text}.{encode_part(hmac.digest(public_key, text.encode(), 'sha256'))}"


def with_critical_header(claims: dict[str, Any], key: ECKey) -> str:
    """Return a valid signature under a header that a verifier must reject if it is unknown (RFC 7515, 4.1.11)."""
    registry = JWSRegistry(header_registry={"new": HeaderParameter("An unknown header", "str")}, algorithms=["ES256"])
    return jwt.encode({"alg": "ES256", "new": "1", "crit": ["new"]}, claims, key, registry=registry)


Forge = Callable[[dict[str, Any]], str]

FORGED: dict[str, Forge] = {
    "other key": lambda claims: sign(ec_key("b"), claims, kid="a"),
    "other type of key": lambda claims: sign(rsa_key("a"), claims),
    "none": lambda claims: without_signature("none", claims),
    "no signature": lambda claims: without_signature("ES256", claims),
    "none in other case": lambda claims: without_signature("nOnE", claims),
    "HS256 with the public key": lambda claims: with_public_key_as_secret(claims, ec_key("a").as_pem(private=False)),
    "PS256": lambda claims: jwt.encode({"alg": "PS256"}, claims, rsa_key("a"), ["PS256"]),
    "RS512": lambda claims: jwt.encode({"alg": "RS512"}, claims, rsa_key("a"), ["RS512"]),
    "key in the header": lambda claims: sign(ec_key("b"), claims, jwk=ec_key("b").as_dict(private=False)),
    "critical header": lambda claims: with_critical_header(claims, ec_key("a")),
    "list algorithm": lambda claims: join_unsigned('{"alg": []}', json.dumps(claims)),
    "list header": lambda claims: join_unsigned("[]", json.dumps(claims)),
    "list claims": lambda claims: join_unsigned('{"alg": "ES256"}', "[]"),
    "nested claims": lambda claims: join_unsigned('{"alg": "ES256"}', "[" * 5000),
    "claims that are not JSON": lambda claims: join_unsigned('{"alg": "ES256"}', "sub"),
    "two parts": lambda claims: sign(ec_key("a"), claims).rpartition(".")[0],
    "four parts": lambda claims: sign(ec_key("a"), claims) + ".x",
    "empty": lambda claims: "",
    "not ASCII": lambda claims: sign(ec_key("a"), claims) + "é",
    "too long": lambda claims: sign(ec_key("a"), {**claims, "pad": "x" * 20_000}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_assertion_is_rejected(service: Service, forge: Forge) -> None:
    client_id = service.create_client(ec_key("a"))
    assert service.authenticate(forge(make_claims(client_id))) is None


def test_unverified_client_id_is_the_claim_sub() -> None:
    assert unverified_client_id(without_signature("ES256", {"sub": OTHER_CLIENT})) == OTHER_CLIENT
    assert unverified_client_id("a.b.c") == ""


def test_assertion_is_accepted_once(service: Service) -> None:
    client_id = service.create_client(ec_key("a"))
    assertion = sign(ec_key("a"), make_claims(client_id))
    assert service.authenticate(assertion) == client_id
    assert service.authenticate(assertion) is None
    service.clock.advance(359)
    assert service.authenticate(assertion) is None, "within the leeway of a minute it still counts as used"


def test_clients_can_use_the_same_jti(service: Service) -> None:
    for client_id in (service.create_client(ec_key("a")), service.create_client(ec_key("a"))):
        assert service.authenticate(sign(ec_key("a"), make_claims(client_id, jti="1"))) == client_id


def test_rejected_assertion_uses_up_no_jti(service: Service) -> None:
    client_id = service.create_client(ec_key("a"))
    assert service.authenticate(sign(ec_key("b"), make_claims(client_id, jti="1"))) is None
    assert service.authenticate(sign(ec_key("a"), make_claims(client_id, jti="1"))) == client_id


def test_client_with_too_many_assertions_is_rejected_until_some_expire(service: Service) -> None:
    service.verifier._used = JtiCache(3)
    client_id = service.create_client(ec_key("a"))
    accepted = [service.authenticate(sign(ec_key("a"), make_claims(client_id))) for _ in range(4)]
    assert accepted == [client_id] * 3 + [None]
    service.clock.advance(400)
    claims = make_claims(client_id, exp=int(service.clock.time()) + 60)
    assert service.authenticate(sign(ec_key("a"), claims)) == client_id


def test_revoked_client_and_client_with_a_secret_are_rejected(service: Service) -> None:
    revoked = service.create_client(ec_key("a"))
    service.clients.revoke(revoked)
    _, with_secret = service.clients.create("has a secret", DEFAULT)
    for client_id in (revoked, with_secret.id):
        assert service.authenticate(sign(ec_key("a"), make_claims(client_id))) is None


def test_public_key_in_pem_is_accepted() -> None:
    for key in (rsa_key("a"), ec_key("a")):
        [stored] = parse_public_keys(key.as_pem(private=False))["keys"]
        assert stored["kty"] == key.key_type
        assert "d" not in stored


SHORT_RSA_PEM = (
    generate_private_key(65537, 1024).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not JSON"),
        (b'{"keys": []}', "contains no key for RS256"),
        (ec_key("a").as_pem(private=True), "this is a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "invalid public key"),
        (ECKey.generate_key("P-384").as_pem(private=False), "unsupported key: it must be RSA"),
        (SHORT_RSA_PEM, "unsupported key: it must be RSA with at least 2048 bits"),
    ],
)
def test_invalid_public_key_is_rejected_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(ClientError, match=message):
        parse_public_keys(content)
