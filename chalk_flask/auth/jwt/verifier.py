"""JWTs of trusted issuers as bearer tokens: LTI Advantage tools, DataSync (RFC 7519, RFC 8725).

Nothing that a token says decides how it is verified: the algorithms are two, a key has one of them, keys come from
where the operator said, and a token whose header brings keys or points to some is refused.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from backends import Backend
from chalk_flask.auth.jwt.issuers import TrustedIssuer, find_trusted
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.auth.jwt.jwks import ES256, RS256, JwkSet, Key, parse_jwk_set
from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import SATISFIED_BY, scope_satisfied
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["JwtVerifier"]

log = logging.getLogger(__name__)

MAX_TOKEN_LENGTH = 8 * 1024
"""The most characters that a token may have, header, claims and signature together."""
LEEWAY_SECONDS = 60
"""By how many seconds the clocks of an issuer may differ from ours."""
MAX_LIFETIME_SECONDS = 24 * 60 * 60
"""The most seconds between `iat` and `exp`."""

_KNOWN = 4096
_NOBODY = Principal(DEFAULT_TENANT, frozenset(), "")
_NEVER = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class _HeaderRegistry(JWSRegistry):
    max_header_length = max_payload_length = MAX_TOKEN_LENGTH


# Headers that we do not know are ignored, as RFC 7515 wants it; those of _NEVER refuse a token before.
_REGISTRY = _HeaderRegistry(algorithms=(RS256, ES256), strict_check_header=False)


class _RejectedToken(Exception):
    """Why a token opens nothing; in words of ours alone, for a log."""


@dataclass(frozen=True, slots=True)
class _CachedToken:
    """A token that was verified: how the store and the keys were then, and until when (epoch seconds) it is valid."""

    stamp: object
    principal: Principal
    until: float
    source: RemoteJwks | None
    keys: JwkSet


class JwtVerifier:
    """The way in for JWTs of the issuers of a store. Safe for use by many threads at once."""

    def __init__(
        self, store: Backend, now: Callable[[], datetime] = utc_now, sources: RemoteJwksCache | None = None
    ) -> None:
        self._store = store
        self._now = now
        self._sources = sources or RemoteJwksCache()
        self._replays = JtiCache()
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _CachedToken] = OrderedDict()

    def can_verify(self, token: str) -> bool:
        """Whether the text has the shape of a signed JWT, three parts of base64url, and no more than LONGEST."""
        return len(token) <= MAX_TOKEN_LENGTH and _SHAPE.fullmatch(token) is not None

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """What the token opens now, and the stamp of the store at which that was so; see `Way.admit`.

        Takes microseconds for a token that was seen before, unless its issuer wants each to be used once.
        """
        # As with our own tokens the stamp comes first: an entry may be too old, never too new.
        stamp = self._store.version(CONTROL)
        digest = sha256(token.encode()).digest()
        moment = self._now().timestamp()
        grant = self._remembered(digest, stamp, moment)
        if grant is not None:
            return grant, stamp
        try:
            return self._verified(token, digest, stamp, moment), stamp
        except _RejectedToken as refused:
            log.debug("a JWT is refused: %s", refused)
            return None, stamp

    def _remembered(self, digest: bytes, stamp: object, moment: float) -> Principal | None:
        entry = self._known.get(digest)
        if entry is None or entry.stamp != stamp or moment >= entry.until:
            return None
        # A key that its issuer has withdrawn ends what was verified with it.
        if entry.source is not None and entry.source.current() is not entry.keys:
            return None
        return entry.principal

    def _verified(self, token: str, digest: bytes, stamp: object, moment: float) -> Principal:
        signed = _extracted(token)
        claims = _claims(signed, moment)
        record, grant = self._trusted(claims)
        if record is None:
            # An issuer that is not known costs what a known one does.
            _verifies(signed, _stand_in(signed.protected["alg"]))
            raise _RejectedToken("no issuer is trusted for this iss and aud, or more than one")
        source, keys = self._keys(signed, record)
        if not _is_signed(signed, keys):
            raise _RejectedToken(f"no key of the issuer {record.id} has signed it")
        if grant is None:
            raise _RejectedToken(f"the tenant of the issuer {record.id} is no more")
        until = claims["exp"] + LEEWAY_SECONDS
        if record.replay:
            self._use(record, claims, until, moment)
        else:
            self._remember(digest, _CachedToken(stamp, grant, until, source, keys))
        return grant

    def _trusted(self, claims: Mapping[str, Any]) -> tuple[TrustedIssuer | None, Principal | None]:
        """The only issuer that the claims name, and what the token opens there; the store is let go of at once."""
        audience = claims["aud"]
        with self._store.read(CONTROL) as control:
            found = find_trusted(control, claims["iss"], [audience] if isinstance(audience, str) else audience)
            if len(found) != 1:
                apply_tenant_rules(control, _NOBODY)  # the same look at the store
                return None, None
            return found[0], apply_tenant_rules(control, found[0].principal(_scopes(claims, found[0])))

    def _keys(self, signed: CompactSignature, record: TrustedIssuer) -> tuple[RemoteJwks | None, JwkSet]:
        if record.jwks_url is None:
            return None, _stored_keys(record.keys or "")
        source = self._sources.get(record.id, record.jwks_url)
        return source, source.keys_for(signed.protected["alg"], signed.protected.get("kid"))

    def _use(self, record: TrustedIssuer, claims: Mapping[str, Any], until: float, moment: float) -> None:
        name = claims.get("jti")
        if not isinstance(name, str) or not name:
            raise _RejectedToken(f"the issuer {record.id} wants each token to be used once, and it has no jti")
        if not self._replays.check_and_remember(record.id, name, until, moment):
            raise _RejectedToken(f"it was used before, or the issuer {record.id} has too many that are still valid")

    def _remember(self, digest: bytes, entry: _CachedToken) -> None:
        with self._lock:
            self._known[digest] = entry
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)


def _extracted(token: str) -> CompactSignature:
    """The parts of a token whose header we would follow; nothing of it is verified."""
    try:
        signed = extract_compact(token.encode(), registry=_REGISTRY)
        header: Any = signed.protected
        if not isinstance(header, dict) or header.get("alg") not in (RS256, ES256):
            raise _RejectedToken("its alg is not RS256 or ES256")
        if not _NEVER.isdisjoint(header):
            raise _RejectedToken("its header says where keys come from, or what must be understood")
        _REGISTRY.check_header(header)
    except (JoseError, ValueError, RecursionError) as error:
        raise _RejectedToken("it is malformed") from error
    return signed


def _claims(signed: CompactSignature, moment: float) -> dict[str, Any]:
    """The claims, if they are what they must be and the token is in its time; nothing says yet who wrote them."""
    try:
        claims = orjson.loads(signed.payload)
        if not isinstance(claims, dict):
            raise _RejectedToken("its claims are no object")
        required: Any = {name: {"essential": True} for name in ("iss", "aud", "exp", "iat")}
        checked = {name: claims[name] for name in (*required, "nbf") if name in claims}
        JWTClaimsRegistry(now=int(moment), leeway=LEEWAY_SECONDS, **required).validate(checked)
    except JoseError as error:
        raise _RejectedToken(f"{error.error} of {getattr(error, 'claim', 'a claim')}") from error
    except ValueError as error:
        raise _RejectedToken("its claims are no JSON") from error
    if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFETIME_SECONDS:
        raise _RejectedToken("it lives longer than a day, or ends before it begins")
    return claims


def _scopes(claims: Mapping[str, Any], record: TrustedIssuer) -> frozenset[str]:
    """Those the token asks for that the issuer may have; all of these when it has no claim `scope`."""
    if "scope" not in claims:
        return record.scopes
    said = claims["scope"]
    asked = said.split() if isinstance(said, str) else said
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
        raise _RejectedToken("its scope is neither text nor a list of texts")
    return frozenset(each for each in asked if each in SATISFIED_BY and scope_satisfied(record.scopes, each))


def _is_signed(signed: CompactSignature, keys: JwkSet) -> bool:
    header = signed.protected
    return any(_verifies(signed, key) for key in keys.matching(header["alg"], header.get("kid")))


def _verifies(signed: CompactSignature, key: Key) -> bool:
    try:
        return validate_compact(signed, key, registry=_REGISTRY)
    except (JoseError, ValueError):
        return False


@lru_cache(maxsize=256)
def _stored_keys(text: str) -> JwkSet:
    return parse_jwk_set(text.encode(), strict=True)


@lru_cache(maxsize=2)
def _stand_in(algorithm: str) -> Key:
    """A key that nobody has signed with."""
    if algorithm == ES256:
        return ECKey.generate_key("P-256", private=False)
    return RSAKey.import_key(RSAPublicNumbers(65537, secrets.randbits(2048) | 1 << 2047 | 1).public_key())
