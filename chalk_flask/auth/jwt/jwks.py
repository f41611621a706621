"""Parser of JWK Sets, the public keys of issuers (RFC 7517).

An RSA key verifies RS256 only and a P-256 key ES256 only, so a token cannot choose how it is verified
(docs/conformance, J-06).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import SplitResult

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import base64_to_int

from chalk_flask.https.client import MAX_RESPONSE_BYTES
from chalk_flask.https.url import InsecureUrlError, InvalidUrlError, parse_url, without_credentials

__all__ = [
    "ES256",
    "MAX_JWKS_BYTES",
    "RS256",
    "InvalidKeySetError",
    "JwkSet",
    "PublicKey",
    "parse_jwk_set",
    "validate_jwks_url",
]

PublicKey: TypeAlias = RSAKey | ECKey

RS256, ES256 = "RS256", "ES256"

MAX_JWKS_BYTES = MAX_RESPONSE_BYTES
MAX_KEYS = 32
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192

_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth")
_PUBLIC_MEMBERS = ("kty", "kid", "n", "e", "crv", "x", "y")


class InvalidKeySetError(Exception):
    """Error of a key set or its URL; the message names the invalid part."""


@dataclass(frozen=True, slots=True)
class JwkSet:
    """Set of public keys, as tuples of key id (or None), algorithm and key."""

    keys: tuple[tuple[str | None, str, PublicKey], ...] = ()

    def matching(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        """Return the keys for a token with this algorithm and key id; a missing id on either side matches any id."""
        candidates = (entry for entry in self.keys if entry[1] == algorithm)
        return [key for key_id, _, key in candidates if kid is None or key_id is None or key_id == kid]

    def to_dict(self) -> dict[str, Any]:
        """Return the JWK Set that is stored and shown, with public members only."""
        return {"keys": [key.as_dict(private=False) for _, _, key in self.keys]}


def parse_jwk_set(text: bytes, *, strict: bool) -> JwkSet:
    """Return the keys of a JWK Set that can verify tokens. Keys of other types and for encryption are skipped.

    A symmetric, private or broken key raises InvalidKeySetError if `strict`; otherwise it is skipped, since a published
    set may contain anything. Raises InvalidKeySetError if no key remains.
    """
    keys = []
    for number, entry in enumerate(_parse_entries(text), start=1):
        try:
            key = _parse_entry(entry)
        except InvalidKeySetError as error:
            if strict:
                raise InvalidKeySetError(f"key {number} of the set {error}") from error
            continue
        if key is not None:
            keys.append(key)
    if not keys:
        raise InvalidKeySetError("the set contains no key for RS256 (RSA) or ES256 (EC with the curve P-256)")
    return JwkSet(tuple(keys))


def validate_jwks_url(text: str) -> SplitResult:
    """Return the parts of the URL of a key set: https, or http on this machine. Raises InvalidKeySetError."""
    try:
        return parse_url(text)
    except InsecureUrlError as error:
        raise InvalidKeySetError(
            f"invalid URL {without_credentials(text)!r}: keys are fetched by https only (by http from this machine)"
        ) from error
    except InvalidUrlError as error:
        raise InvalidKeySetError(f"{error}; a key set has a URL such as https://tool.example.org/jwks.json") from error


def _parse_entries(text: bytes) -> list[Any]:
    try:
        data = orjson.loads(text)
    except ValueError as error:
        raise InvalidKeySetError('this is not JSON; a JWK Set is an object such as {"keys": [...]}') from error
    entries = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InvalidKeySetError('this is not a JWK Set, an object such as {"keys": [...]}')
    if len(entries) > MAX_KEYS:
        raise InvalidKeySetError(f"the set contains {len(entries)} keys: it must have at most {MAX_KEYS}")
    return entries


def _parse_entry(entry: Any) -> tuple[str | None, str, PublicKey] | None:
    """Return id, algorithm and key of an entry, or None for a key of another type or for another use."""
    if not isinstance(entry, dict):
        raise InvalidKeySetError("is not an object")
    if entry.get("kty") == "oct" or "k" in entry:
        raise InvalidKeySetError("is symmetric, so its owner could forge tokens: give the public keys of key pairs")
    if any(member in entry for member in _PRIVATE_MEMBERS):
        raise InvalidKeySetError("is private, which only the issuer may have: give the public part, without `d`")
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not (kid is None or isinstance(kid, str)) or not isinstance(operations, list):
        raise InvalidKeySetError("is invalid: kid must be text, and key_ops a list")
    is_rsa = entry.get("kty") == "RSA"
    is_p256 = entry.get("kty") == "EC" and entry.get("crv") == "P-256"
    algorithm = RS256 if is_rsa else ES256
    is_for_signatures = entry.get("use", "sig") == "sig" and "verify" in operations
    if not (is_rsa or is_p256) or not is_for_signatures or entry.get("alg", algorithm) != algorithm:
        return None
    return kid, algorithm, _import_key(entry)


def _import_key(entry: dict[str, Any]) -> PublicKey:
    members: dict[str, Any] = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    try:
        if members["kty"] == "EC":
            return ECKey.import_key(members)
        _check_rsa_size(members)
        return RSAKey.import_key(members)
    except (JoseError, KeyError, TypeError, ValueError) as error:
        raise InvalidKeySetError("is broken: a number is missing or invalid") from error


def _check_rsa_size(members: dict[str, Any]) -> None:
    # Check before the import: a short key is weak, and a long one or a large exponent makes each verification slow.
    bits, exponent = base64_to_int(members["n"]).bit_length(), base64_to_int(members["e"])
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or exponent >= 2**32:
        raise InvalidKeySetError(
            f"is unsupported: RSA must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits and an exponent of at most 32 bits"
        )
