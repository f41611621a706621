"""Client assertions: OAuth clients authenticate with a JWT that their private key signed (RFC 7523, section 3)."""

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
from chalk_flask.auth.jwt.jwks import ES256, RS256, InvalidKeySetError, JwkSet, PublicKey, parse_jwk_set
from chalk_flask.auth.rejections import note_rejection
from chalk_flask.shared_state import SharedState
from chalk_flask.times import utc_now

__all__ = ["JWT_BEARER", "ClientAssertionVerifier", "parse_public_keys", "unverified_client_id"]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The only supported `client_assertion_type`."""

LEEWAY_SECONDS = 60
"""Tolerated difference between the clocks of client and server."""
MAX_LIFETIME_SECONDS = 3600
"""Maximum lifetime of an assertion, counted from now."""

MAX_ASSERTION_LENGTH = 16384
MAX_JTI_LENGTH = 256
MAX_USED_PER_CLIENT = 10_000
"""Maximum number of used assertions per client. While all of them are valid, further ones are rejected."""
MIN_RSA_BITS = 2048


class ClientAssertionVerifier:
    """Verifier of client assertions. Thread-safe.

    An assertion is accepted once: the ids of used assertions are in the shared state until they expire.
    """

    def __init__(
        self,
        clients: ClientStore,
        now: Callable[[], datetime] = utc_now,
        shared_state: SharedState | None = None,
    ) -> None:
        self._clients = clients
        self._now = now
        self._used = JtiCache(MAX_USED_PER_CLIENT, shared_state, "assertion")

    def authenticate(self, assertion: str, audiences: Sequence[str]) -> OAuthClient | None:
        """Return the client that signed the assertion for one of the audiences; None for an invalid assertion.

        Takes the same time for known and unknown clients. Raises StorageError.
        """
        parts = _parse_unverified(assertion)
        if parts is None:
            note_rejection("the client assertion is malformed")
            return None
        algorithm, kid, claims = parts
        client = self._clients.find_active(claims["sub"])
        keys = _find_keys(client, algorithm, kid)
        if not any(_is_signed_by(assertion, key, algorithm) for key in keys) or client is None:
            note_rejection("no key of a known client matches the signature of the client assertion")
            return None
        if self._use(claims, audiences):
            return client
        note_rejection(f"the client assertion of {client.id} was used before, or its claims are invalid or expired")
        return None

    def _use(self, claims: dict[str, Any], audiences: Sequence[str]) -> bool:
        """Mark a verified assertion as used. Return False if its claims are invalid or it was used before."""
        now = int(self._now().timestamp())
        registry = JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": claims["sub"]},
            aud={"essential": True, "values": list(audiences)},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError:
            return False
        expires, jti = claims["exp"], claims["jti"]
        if expires > now + MAX_LIFETIME_SECONDS + LEEWAY_SECONDS or len(jti) > MAX_JTI_LENGTH:
            return False
        return self._used.check_and_remember(claims["sub"], jti, expires + LEEWAY_SECONDS + 1, now)


def unverified_client_id(assertion: str) -> str:
    """Return the client id that an assertion claims, without verifying it; empty if there is none."""
    parts = _parse_unverified(assertion)
    return parts[2]["sub"] if parts is not None else ""


def parse_public_keys(content: bytes) -> dict[str, Any]:
    """Return the JWK Set to store for a client. `content` is a JWK Set or one public key in PEM.

    Raises ClientError.
    """
    try:
        if b"-----BEGIN" in content:
            content = orjson.dumps({"keys": [_parse_pem(content)]})
        return parse_jwk_set(content, strict=True).to_dict()
    except InvalidKeySetError as error:
        raise ClientError(f"invalid public key of the client: {error}") from error


def _parse_pem(content: bytes) -> Mapping[str, Any]:
    if b"PRIVATE KEY-----" in content:
        raise InvalidKeySetError("this is a private key, which only the client may have: give the public key")
    try:
        key = load_pem_public_key(content)
        if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
            return RSAKey.import_key(key).as_dict(private=False)
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            return ECKey.import_key(key).as_dict(private=False)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidKeySetError("invalid public key: give a PEM such as `openssl pkey -pubout` prints") from error
    raise InvalidKeySetError(
        f"unsupported key: it must be RSA with at least {MIN_RSA_BITS} bits, or EC with the curve P-256"
    )


def _parse_unverified(assertion: str) -> tuple[str, str | None, dict[str, Any]] | None:
    """Return algorithm, key id and claims (with a textual `sub`) of an assertion, or None if it is malformed."""
    if len(assertion) > MAX_ASSERTION_LENGTH or not assertion.isascii():
        return None
    try:
        signature = jws.extract_compact(assertion.encode())
        header, claims = signature.headers(), orjson.loads(signature.payload or b"")
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in (RS256, ES256) or not isinstance(claims, dict) or not isinstance(claims.get("sub"), str):
        return None
    return algorithm, kid if isinstance(kid, str) else None, claims


def _is_signed_by(assertion: str, key: PublicKey, algorithm: str) -> bool:
    try:
        jws.deserialize_compact(assertion, key, [algorithm])
    except Exception:  # noqa: BLE001 - a check that fails for any reason has not verified the assertion
        return False
    return True


def _find_keys(client: OAuthClient | None, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
    """Return the client's keys for this algorithm, or a stand-in if there are none, so that verifying takes as long."""
    jwks = _parse_jwks(orjson.dumps(client.jwks)) if client is not None and client.jwks is not None else JwkSet()
    # All keys belong to the client, so a kid that differs from the stored one is no reason to reject.
    return jwks.matching(algorithm, kid) or jwks.matching(algorithm, None) or [_stand_in_keys()[algorithm]]


@lru_cache(maxsize=256)
def _parse_jwks(jwks: bytes) -> JwkSet:
    return parse_jwk_set(jwks, strict=True)


@lru_cache(maxsize=1)
def _stand_in_keys() -> Mapping[str, PublicKey]:
    # Any odd number is a sufficient modulus: no assertion is ever signed with this key.
    modulus = (secrets.randbits(2048) | 1 | 1 << 2047).to_bytes(256, "big")
    rsa: dict[str, str | list[str]] = {"kty": "RSA", "e": "AQAB", "n": urlsafe_b64encode(modulus).rstrip(b"=").decode()}
    return {RS256: RSAKey.import_key(rsa), ES256: ECKey.generate_key("P-256", private=False)}
