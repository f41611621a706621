"""Verification of ID tokens (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from authlib.oidc.core.claims import CodeIDToken
from joserfc.errors import JoseError

from chalk_flask.auth.jwt.jwks import JwkSet
from chalk_flask.auth.jwt.signed_token import RejectedTokenError, is_signed_by_any, parse_signed_token
from chalk_flask.oidc.errors import ProviderError

__all__ = ["ExpectedToken", "verify_id_token"]

MAX_ID_TOKEN_LENGTH = 32 * 1024
MAX_SUBJECT_LENGTH = 255
"""Maximum length of `sub` (OpenID Connect Core 1.0, section 2)."""
LEEWAY_SECONDS = 60
"""Tolerated difference between the clocks of provider and server."""

_REQUIRED = ("iss", "sub", "aud", "exp", "iat", "nonce")
_TEXTS = ("iss", "sub", "nonce", "azp", "at_hash")


@dataclass(frozen=True, slots=True)
class ExpectedToken:
    """Values that an ID token must have. `now` is in epoch seconds."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str
    now: float


def verify_id_token(
    token: str, expected: ExpectedToken, keys_for: Callable[[str, str | None], JwkSet]
) -> dict[str, Any]:
    """Return the claims of a valid ID token. Raises ProviderError.

    `keys_for` returns the keys of the provider for an algorithm and a key id.
    """
    try:
        if len(token) > MAX_ID_TOKEN_LENGTH:
            raise RejectedTokenError(f"it has more than {MAX_ID_TOKEN_LENGTH} characters")
        signature = parse_signed_token(token)
        header = signature.protected
        if not is_signed_by_any(signature, keys_for(header["alg"], header.get("kid"))):
            raise RejectedTokenError("no key of the provider matches the signature")
        claims = _parse_claims(signature.payload)
        _check_claims(claims, header, expected)
    except RejectedTokenError as error:
        raise ProviderError(f"the ID token is rejected: {error}") from error
    return claims


def _parse_claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = orjson.loads(payload)
    except ValueError as error:
        raise RejectedTokenError("its claims are not JSON") from error
    if not isinstance(claims, dict):
        raise RejectedTokenError("its claims are not an object")
    return claims


def _check_claims(claims: Mapping[str, Any], header: Mapping[str, Any], expected: ExpectedToken) -> None:
    for name in _TEXTS:
        if not isinstance(claims.get(name, ""), str):
            raise RejectedTokenError(f"its {name} is not a text")
    # Audiences that this service does not know are not trusted, so the only one is this client.
    if claims.get("aud") not in (expected.client_id, [expected.client_id]):
        raise RejectedTokenError("its aud is not this client alone")
    options: dict[str, Any] = {name: {"essential": True} for name in _REQUIRED}
    options["iss"]["value"] = expected.issuer
    params = {"nonce": expected.nonce, "client_id": expected.client_id, "access_token": expected.access_token}
    try:
        CodeIDToken(claims, header, options, params).validate(now=int(expected.now), leeway=LEEWAY_SECONDS)
    except JoseError as error:
        raise RejectedTokenError(f"{error.error} of {getattr(error, 'claim', 'a claim')}") from error
    if not 0 < len(claims["sub"]) <= MAX_SUBJECT_LENGTH:
        raise RejectedTokenError(f"its sub has not 1 to {MAX_SUBJECT_LENGTH} characters")
