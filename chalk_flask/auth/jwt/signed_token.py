"""Signed JWTs (RFC 7515): parser of their headers, and verification of their signatures.

RS256 and ES256 are accepted, and no header that brings or locates a key (docs/conformance, J-06).
"""

from __future__ import annotations

import logging
from typing import Any

from joserfc.errors import JoseError
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact

from chalk_flask.auth.jwt.jwks import ES256, RS256, JwkSet, PublicKey

__all__ = ["MAX_SIGNED_TOKEN_LENGTH", "RejectedTokenError", "is_signed_by", "is_signed_by_any", "parse_signed_token"]

log = logging.getLogger(__name__)

MAX_SIGNED_TOKEN_LENGTH = 32 * 1024
"""Maximum length of a header or a payload. ID tokens of Microsoft with 200 groups have about 11 KB."""

_FORBIDDEN_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})


class RejectedTokenError(Exception):
    """Reason for the rejection of a token, for the log. The message contains no part of the token."""


class _HeaderRegistry(JWSRegistry):
    max_header_length = max_payload_length = MAX_SIGNED_TOKEN_LENGTH


# Unknown headers are ignored, as RFC 7515 requires; a token with one of _FORBIDDEN_HEADERS is rejected before.
_REGISTRY = _HeaderRegistry(algorithms=(RS256, ES256), strict_check_header=False)


def parse_signed_token(token: str) -> CompactSignature:
    """Return the parts of a token with an acceptable header; the signature is not verified yet.

    Raises RejectedTokenError.
    """
    try:
        signature = extract_compact(token.encode(), registry=_REGISTRY)
        header: Any = signature.protected
        if not isinstance(header, dict) or header.get("alg") not in (RS256, ES256):
            raise RejectedTokenError("its alg is not RS256 or ES256")
        if not _FORBIDDEN_HEADERS.isdisjoint(header):
            raise RejectedTokenError("its header contains or locates keys, or requires an extension")
        _REGISTRY.check_header(header)
    except (JoseError, ValueError, RecursionError) as error:
        raise RejectedTokenError("it is malformed") from error
    return signature


def is_signed_by_any(signature: CompactSignature, keys: JwkSet) -> bool:
    """Return True if one of the keys that match the header has signed the token."""
    header = signature.protected
    return any(is_signed_by(signature, key) for key in keys.matching(header["alg"], header.get("kid")))


def is_signed_by(signature: CompactSignature, key: PublicKey) -> bool:
    """Return True if the key has signed the token."""
    try:
        return validate_compact(signature, key, registry=_REGISTRY)
    except Exception as error:  # noqa: BLE001 - a check that fails for any reason has not verified the token
        log.debug("the check of a signature failed: %s", type(error).__name__)
        return False
