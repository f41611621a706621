"""Clients with a key are told by what they sign with it, once."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

from backends import open_store
from chalk_flask.auth.clients.assertions import ClientAssertionVerifier, parse_public_keys
from chalk_flask.auth.clients.store import ClientError, ClientStore
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.storage import COLLECTIONS
from tests.support.keys import ec_key, key_set, rsa_key

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
NOW = int(MORNING.timestamp())
HERE = "https://roster.example.org/oauth/token"
WRONG = f"{HERE}/other"
SHORT = generate_private_key(65537, 1024).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = MORNING

    def __call__(self) -> datetime:
        return self.moment


class Signers:
    """Clients with keys, and what tells them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clients = ClientStore(open_store("memory:", COLLECTIONS), self.clock)
        self.assertions = ClientAssertionVerifier(self.clients, self.clock)

    def make(self, *keys: RSAKey | ECKey) -> str:
        return self.clients.create("signs", DEFAULT, jwks=parse_public_keys(key_set(*keys)))[1].id

    def told(self, assertion: str, *audiences: str) -> str | None:
        record = self.assertions.authenticate(assertion, audiences or [HERE])
        return record.id if record is not None else None


@pytest.fixture
def signers() -> Signers:
    return Signers()


def claims(client: str, **changed: Any) -> dict[str, Any]:
    """The claims of an assertion for five minutes, with these instead (None: without that)."""
    usual = {"iss": client, "sub": client, "aud": HERE, "iat": NOW, "exp": NOW + 300, "jti": str(uuid.uuid4())}
    return {name: value for name, value in (usual | changed).items() if value is not None}


def sign(key: RSAKey | ECKey, said: dict[str, Any], **header: Any) -> str:
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    return jwt.encode({"alg": algorithm, **header}, said, key)


@pytest.mark.parametrize("key", [rsa_key("a"), ec_key("a")], ids=["RS256", "ES256"])
@pytest.mark.parametrize("header", [{}, {"kid": "a"}, {"kid": "what the client calls it"}], ids=str)
def test_a_client_is_told_by_its_signature(signers: Signers, key: RSAKey | ECKey, header: dict[str, str]) -> None:
    client = signers.make(key)
    assert signers.told(sign(key, claims(client), **header)) == client


def test_any_of_a_clients_keys_will_do(signers: Signers) -> None:
    keys: list[RSAKey | ECKey] = [rsa_key("a"), ec_key("a"), rsa_key("b"), ec_key("b")]
    client = signers.make(*keys)
    assert all(signers.told(sign(key, claims(client))) == client for key in keys)


@pytest.mark.parametrize("aud", [HERE, [HERE], ["https://elsewhere.example.org", HERE]], ids=str)
def test_it_is_for_one_of_our_addresses(signers: Signers, aud: object) -> None:
    client = signers.make(ec_key("a"))
    assert signers.told(sign(ec_key("a"), claims(client, aud=aud)), WRONG, HERE) == client


@pytest.mark.parametrize(
    "changed",
    [{"exp": NOW - 59}, {"exp": NOW + 3660}, {"iat": NOW + 60}, {"nbf": NOW + 60}, {"iat": None}, {"iat": NOW - 9999}],
    ids=str,
)
def test_a_clock_may_be_a_minute_off(signers: Signers, changed: dict[str, Any]) -> None:
    client = signers.make(ec_key("a"))
    assert signers.told(sign(ec_key("a"), claims(client, **changed))) == client


WRONG_CLAIMS: dict[str, list[Any]] = {
    "exp": [None, NOW - 60, NOW + 3661, 1e300, "1", True, [NOW], 10**400],
    "iat": [NOW + 61, "now"],
    "nbf": [NOW + 61, "now"],
    "aud": [None, WRONG, [], [WRONG], HERE + "/", HERE.upper(), 1, {HERE: 1}, [[HERE]]],
    "iss": [None, "chk_client_0123456789abcdef", 1, []],
    "sub": [None, "chk_client_0123456789abcdef", 1, [], ""],
    "jti": [None, "", 1, [], "x" * 257],
}


@pytest.mark.parametrize(
    "changed",
    [{name: value} for name, values in WRONG_CLAIMS.items() for value in values],
    ids=lambda changed: str(changed)[:60],
)
def test_wrong_claims_tell_nobody(signers: Signers, changed: dict[str, Any]) -> None:
    client = signers.make(ec_key("a"))
    assert signers.told(sign(ec_key("a"), claims(client, **changed))) is None


def part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def unsigned(algorithm: str, said: dict[str, Any]) -> str:
    return joined(json.dumps({"alg": algorithm}), json.dumps(said)).removesuffix("x")


def joined(header: str, said: str) -> str:
    return f"{part(header)}.{part(said)}.x"


def confused(said: dict[str, Any], public: bytes) -> str:
    """Signed with a key that everybody knows, in the hope that it is taken for a secret."""
    text = joined(json.dumps({"alg": "HS256"}), json.dumps(said)).removesuffix(".x")
    signature = hmac.digest(public, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def demanding(said: dict[str, Any], key: ECKey) -> str:
    """Signed rightly, with a header that whoever does not know it has to refuse (RFC 7515, section 4.1.11)."""
    known = JWSRegistry(header_registry={"new": HeaderParameter("What nobody knows", "str")}, algorithms=["ES256"])
    return jwt.encode({"alg": "ES256", "new": "1", "crit": ["new"]}, said, key, registry=known)


Forge = Callable[[dict[str, Any]], str]

FORGED: dict[str, Forge] = {
    "another key": lambda c: sign(ec_key("b"), c, kid="a"),
    "another kind of key": lambda c: sign(rsa_key("a"), c),
    "none": lambda c: unsigned("none", c),
    "no signature": lambda c: unsigned("ES256", c),
    "None in other letters": lambda c: unsigned("nOnE", c),
    "HS256 with the public key": lambda c: confused(c, ec_key("a").as_pem(private=False)),
    "PS256": lambda c: jwt.encode({"alg": "PS256"}, c, rsa_key("a"), ["PS256"]),
    "RS512": lambda c: jwt.encode({"alg": "RS512"}, c, rsa_key("a"), ["RS512"]),
    "a key in the header": lambda c: sign(ec_key("b"), c, jwk=ec_key("b").as_dict(private=False)),
    "a header that must be understood": lambda c: demanding(c, ec_key("a")),
    "an algorithm that is a list": lambda c: joined('{"alg": []}', json.dumps(c)),
    "a header that is a list": lambda c: joined("[]", json.dumps(c)),
    "claims that are a list": lambda c: joined('{"alg": "ES256"}', "[]"),
    "claims nested deeply": lambda c: joined('{"alg": "ES256"}', "[" * 5000),
    "claims that are no JSON": lambda c: joined('{"alg": "ES256"}', "sub"),
    "two parts": lambda c: sign(ec_key("a"), c).rpartition(".")[0],
    "four parts": lambda c: sign(ec_key("a"), c) + ".x",
    "nothing": lambda c: "",
    "letters of other scripts": lambda c: sign(ec_key("a"), c) + "é",
    "too long": lambda c: sign(ec_key("a"), {**c, "pad": "x" * 20_000}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_wrong_signatures_tell_nobody(signers: Signers, forge: Forge) -> None:
    client = signers.make(ec_key("a"))
    assert signers.told(forge(claims(client))) is None


def test_an_assertion_is_good_once(signers: Signers) -> None:
    client = signers.make(ec_key("a"))
    assertion = sign(ec_key("a"), claims(client))
    assert signers.told(assertion) == client
    assert signers.told(assertion) is None
    signers.clock.moment += timedelta(seconds=359)
    assert signers.told(assertion) is None, "within the minute that clocks may be off it still counts as used"


def test_clients_do_not_use_up_each_others_ids(signers: Signers) -> None:
    first, second = signers.make(ec_key("a")), signers.make(ec_key("a"))
    for client in (first, second):
        assert signers.told(sign(ec_key("a"), claims(client, jti="1"))) == client


def test_an_assertion_that_was_refused_is_not_used_up(signers: Signers) -> None:
    client = signers.make(ec_key("a"))
    assert signers.told(sign(ec_key("b"), claims(client, jti="1"))) is None
    assert signers.told(sign(ec_key("a"), claims(client, jti="1"))) == client


def test_a_client_with_too_many_assertions_under_way_waits_until_some_expire(signers: Signers) -> None:
    signers.assertions._used = JtiCache(3)
    client = signers.make(ec_key("a"))
    told = [signers.told(sign(ec_key("a"), claims(client))) for _ in range(4)]
    assert told == [client] * 3 + [None]
    signers.clock.moment += timedelta(seconds=400)
    later = int(signers.clock().timestamp())
    assert signers.told(sign(ec_key("a"), claims(client, exp=later + 60))) == client


def test_a_revoked_client_and_one_with_a_secret_sign_in_vain(signers: Signers) -> None:
    revoked = signers.make(ec_key("a"))
    signers.clients.revoke(revoked)
    _, secretive = signers.clients.create("has a secret", DEFAULT)
    for client in (revoked, secretive.id):
        assert signers.told(sign(ec_key("a"), claims(client))) is None


def test_a_public_key_in_pem_will_do() -> None:
    for key in (rsa_key("a"), ec_key("a")):
        [kept] = parse_public_keys(key.as_pem(private=False))["keys"]
        assert kept["kty"] == key.key_type
        assert "d" not in kept


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "not a JWK Set"),
        (b'{"keys": []}', "holds no key for RS256"),
        (json.dumps({"keys": [ec_key("a").as_dict(private=True)]}).encode(), "private"),
        (json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}).encode(), "symmetric"),
        (ec_key("a").as_pem(private=True), "this is a private key"),
        (rsa_key("a").as_pem(private=True), "this is a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is no public key"),
        (ECKey.generate_key("P-384").as_pem(private=False), "neither an RSA key"),
        (SHORT, "neither an RSA key of 2048 bits"),
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(ClientError, match=why):
        parse_public_keys(content)
