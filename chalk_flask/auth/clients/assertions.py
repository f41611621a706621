"""Clients that show who they are by signing with a private key: `private_key_jwt` (RFC 7523, section 3)."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import ClientError, ClientStore
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.auth.jwt.jwks import ES256, RS256, InvalidKeySetError, JwkSet, parse_jwk_set
from chalk_flask.times import utc_now

__all__ = ["JWT_BEARER", "ClientAssertionVerifier", "parse_public_keys", "unverified_client_id"]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The only `client_assertion_type` there is."""

LEEWAY_SECONDS = 60
"""Seconds by which a client's clock may differ from ours."""
MAX_LIFETIME_SECONDS = 3600
"""Seconds that an assertion may be valid, counted from now."""

MIN_RSA_BITS = 2048
"""Bits that an RSA key has at least."""

_LONGEST = 16384
_LONGEST_JTI = 256
_MOST_USED = 10_000
"""Assertions of a client that are remembered at a time; when all of them are still valid, further ones are refused."""


class ClientAssertionVerifier:
    """Tells clients by their assertions. Safe for use by many threads at once.

    An assertion is good once. Which were used is known to this process alone and until it ends: with several processes
    one could be used once in each, within the hour that it may be valid.
    """

    def __init__(self, clients: ClientStore, now: Callable[[], datetime] = utc_now) -> None:
        self._clients = clients
        self._now = now
        self._used = JtiCache(_MOST_USED)

    def authenticate(self, assertion: str, audiences: Sequence[str]) -> OAuthClient | None:
        """The client that signed this for one of the audiences; None when anything about it is wrong.

        Takes the same time whether there is such a client or not. Raises StorageError.
        """
        said = _unverified(assertion)
        if said is None:
            return None
        algorithm, kid, claims = said
        record = self._clients.find_active(claims["sub"])
        keys = _keys(record, algorithm, kid)
        if not any(_signed(assertion, key, algorithm) for key in keys) or record is None:
            return None
        return record if self._fresh(claims, audiences) else None

    def _fresh(self, claims: dict[str, Any], audiences: Sequence[str]) -> bool:
        now = int(self._now().timestamp())
        wanted = JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": claims["sub"]},
            aud={"essential": True, "values": list(audiences)},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            wanted.validate(claims)
        except JoseError:
            return False
        expires, jti = claims["exp"], claims["jti"]
        if expires > now + MAX_LIFETIME_SECONDS + LEEWAY_SECONDS or len(jti) > _LONGEST_JTI:
            return False
        return self._used.check_and_remember(claims["sub"], jti, expires + LEEWAY_SECONDS + 1, now)


def unverified_client_id(assertion: str) -> str:
    """The id of the client that an assertion says it is of, which nobody has verified; empty when it says none."""
    said = _unverified(assertion)
    return said[2]["sub"] if said is not None else ""


def parse_public_keys(content: bytes) -> dict[str, Any]:
    """The JWK Set to be kept of a client, from one or from a public key in PEM. Raises ClientError."""
    try:
        if b"-----BEGIN" in content:
            content = orjson.dumps({"keys": [_of_pem(content)]})
        return parse_jwk_set(content, strict=True).to_dict()
    except InvalidKeySetError as error:
        raise ClientError(f"the client's public key: {error}") from error


def _of_pem(content: bytes) -> Mapping[str, Any]:
    if b"PRIVATE KEY-----" in content:
        raise InvalidKeySetError("this is a private key, which belongs to the client alone: give the public one")
    try:
        key = load_pem_public_key(content)
        if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
            return RSAKey.import_key(key).as_dict(private=False)
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            return ECKey.import_key(key).as_dict(private=False)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidKeySetError("this PEM is no public key, such as `openssl pkey -pubout` prints") from error
    raise InvalidKeySetError(
        f"this is neither an RSA key of {MIN_RSA_BITS} bits or more nor an EC key with the curve P-256"
    )


def _unverified(assertion: str) -> tuple[str, str | None, dict[str, Any]] | None:
    """What an assertion says before anyone has verified it: algorithm, key id, claims with a textual `sub`."""
    if len(assertion) > _LONGEST or not assertion.isascii():
        return None
    try:
        read = jws.extract_compact(assertion.encode())
        header, claims = read.headers(), orjson.loads(read.payload or b"")
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in (RS256, ES256) or not isinstance(claims, dict) or not isinstance(claims.get("sub"), str):
        return None
    return algorithm, kid if isinstance(kid, str) else None, claims


def _signed(assertion: str, key: RSAKey | ECKey, algorithm: str) -> bool:
    try:
        jws.deserialize_compact(assertion, key, [algorithm])
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _keys(record: OAuthClient | None, algorithm: str, kid: str | None) -> Sequence[RSAKey | ECKey]:
    """The client's keys for this algorithm; where it has none one that nobody signs with, which takes as long."""
    held = _parsed(orjson.dumps(record.jwks)) if record is not None and record.jwks is not None else JwkSet()
    # Whatever a client calls its key, all of these are its own.
    return held.matching(algorithm, kid) or held.matching(algorithm, None) or [_nobodys()[algorithm]]


@lru_cache(maxsize=256)
def _parsed(jwks: bytes) -> JwkSet:
    return parse_jwk_set(jwks, strict=True)


@lru_cache(maxsize=1)
def _nobodys() -> Mapping[str, RSAKey | ECKey]:
    # Any odd number will do as a modulus: nothing is ever signed with it.
    modulus = (secrets.randbits(2048) | 1 | 1 << 2047).to_bytes(256, "big")
    rsa: dict[str, str | list[str]] = {"kty": "RSA", "e": "AQAB", "n": urlsafe_b64encode(modulus).rstrip(b"=").decode()}
    return {RS256: RSAKey.import_key(rsa), ES256: ECKey.generate_key("P-256", private=False)}
