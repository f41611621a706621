"""Public keys of issuers, as a JWK Set has them (RFC 7517).

RSA keys verify RS256 and P-256 keys ES256, and neither anything else, so that no token can choose how it is verified.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urlsplit

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import base64_to_int

__all__ = [
    "ES256",
    "MAX_JWKS_BYTES",
    "RS256",
    "InvalidKeySetError",
    "JwkSet",
    "Key",
    "parse_jwk_set",
    "validate_jwks_url",
]

Key: TypeAlias = RSAKey | ECKey

RS256, ES256 = "RS256", "ES256"

MAX_JWKS_BYTES = 1024 * 1024
"""The most bytes that a key set may have."""

_MOST_KEYS = 32
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth")
_RSA_BITS = range(2048, 8193)


class InvalidKeySetError(Exception):
    """A key set, or the address of one, will not do; the message says why."""


@dataclass(frozen=True, slots=True)
class JwkSet:
    """The keys of a set that may verify, each with its id (None: it has none) and its only algorithm."""

    keys: tuple[tuple[str | None, str, Key], ...] = ()

    def matching(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        """The keys for a token with this header: of that algorithm, and of that id where both name one."""
        same = (each for each in self.keys if each[1] == algorithm)
        return [key for known, _, key in same if kid is None or known is None or known == kid]

    def to_dict(self) -> dict[str, Any]:
        """The JWK Set that is stored and shown: public members only."""
        return {"keys": [key.as_dict(private=False) for _, _, key in self.keys]}


def parse_jwk_set(text: bytes, *, strict: bool) -> JwkSet:
    """The keys of a JWK Set that may verify tokens. Other kinds, and keys for encryption, are left out.

    Raises InvalidKeySetError when none is left; with `strict` also for a symmetric, a private or a broken key, which are left out
    otherwise, as a published set may hold anything.
    """
    held = []
    for number, entry in enumerate(_entries(text), start=1):
        try:
            found = _read(entry)
        except InvalidKeySetError as error:
            if strict:
                raise InvalidKeySetError(f"key {number} of the set {error}") from error
            continue
        if found is not None:
            held.append(found)
    if not held:
        raise InvalidKeySetError("the set holds no key for RS256 (RSA) or ES256 (EC with the curve P-256)")
    return JwkSet(tuple(held))


def validate_jwks_url(text: str) -> SplitResult:
    """The parts of an address of a key set: https, or http on this machine. Raises InvalidKeySetError."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not re.fullmatch(r"[!-~]{1,1000}", text) or parts.username is not None or parts.fragment:
        raise InvalidKeySetError(
            f"{text!r} is not the address of a key set, such as https://tool.example.org/jwks.json"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise InvalidKeySetError(f"{text!r} will not do: keys are fetched by https only (by http from this machine)")
    return parts


def _entries(text: bytes) -> list[Any]:
    try:
        data = orjson.loads(text)
    except ValueError as error:
        raise InvalidKeySetError('this is not JSON; a JWK Set is an object such as {"keys": [...]}') from error
    entries = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InvalidKeySetError('this is not a JWK Set, an object such as {"keys": [...]}')
    if len(entries) > _MOST_KEYS:
        raise InvalidKeySetError(f"the set holds {len(entries)} keys, and {_MOST_KEYS} are the most")
    return entries


def _read(entry: Any) -> tuple[str | None, str, Key] | None:
    """The id, algorithm and key of an entry; None when it is of another kind or for another use."""
    if not isinstance(entry, dict):
        raise InvalidKeySetError("is not an object")
    if entry.get("kty") == "oct" or "k" in entry:
        raise InvalidKeySetError(
            "is symmetric: who can verify with it can sign with it too; give the public keys of a pair"
        )
    if any(member in entry for member in _PRIVATE):
        raise InvalidKeySetError(
            "is private, and belongs to the issuer alone: give the public part, without `d` and the like"
        )
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not (kid is None or isinstance(kid, str)) or not isinstance(operations, list):
        raise InvalidKeySetError("has a kid that is no text, or key_ops that are no list")
    algorithm = RS256 if entry.get("kty") == "RSA" else ES256
    fits = entry.get("kty") == "RSA" or (entry.get("kty") == "EC" and entry.get("crv") == "P-256")
    for_tokens = entry.get("use", "sig") == "sig" and "verify" in operations
    if not fits or not for_tokens or entry.get("alg", algorithm) != algorithm:
        return None
    return kid, algorithm, _imported(entry)


def _imported(entry: dict[str, Any]) -> Key:
    kept: dict[str, Any] = {name: entry[name] for name in ("kty", "kid", "n", "e", "crv", "x", "y") if name in entry}
    try:
        if kept["kty"] == "EC":
            return ECKey.import_key(kept)
        # Looked at first: a short key is weak, a long one slow, and so is a large exponent.
        if base64_to_int(kept["n"]).bit_length() not in _RSA_BITS or base64_to_int(kept["e"]) >= 2**32:
            shortest, longest = _RSA_BITS[0], _RSA_BITS[-1]
            raise InvalidKeySetError(
                f"is RSA with less than {shortest} or more than {longest} bits, or an exponent of more than 32"
            )
        return RSAKey.import_key(kept)
    except (JoseError, KeyError, TypeError, ValueError) as error:
        raise InvalidKeySetError("is broken: its numbers are missing or are none") from error


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
