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
from chalk_flask.auth.jwt.issuers import IssuerRecord, trusted
from chalk_flask.auth.jwt.jti_cache import Replays
from chalk_flask.auth.jwt.jwks import ES256, RS256, Key, PublicKeys, public_keys
from chalk_flask.auth.jwt.jwks_cache import KeySource, KeySources
from chalk_flask.auth.tokens.record import Grant, instant
from chalk_flask.permissions.scopes import SATISFIED_BY, allows
from chalk_flask.tenants.store import CONTROL, DEFAULT, granted

__all__ = ["JwtBearer"]

log = logging.getLogger(__name__)

LONGEST = 8 * 1024
"""The most characters that a token may have, header, claims and signature together."""
LEEWAY = 60
"""By how many seconds the clocks of an issuer may differ from ours."""
LIFETIME = 24 * 60 * 60
"""The most seconds between `iat` and `exp`."""

_KNOWN = 4096
_NOBODY = Grant(DEFAULT, frozenset(), "")
_NEVER = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class _Registry(JWSRegistry):
    max_header_length = max_payload_length = LONGEST


# Headers that we do not know are ignored, as RFC 7515 wants it; those of _NEVER refuse a token before.
_REGISTRY = _Registry(algorithms=(RS256, ES256), strict_check_header=False)


class _Refused(Exception):
    """Why a token opens nothing; in words of ours alone, for a log."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified: how the store and the keys were then, and until when (epoch seconds) it is valid."""

    stamp: object
    grant: Grant
    until: float
    source: KeySource | None
    keys: PublicKeys


class JwtBearer:
    """The way in for JWTs of the issuers of a store. Safe for use by many threads at once."""

    def __init__(
        self, store: Backend, now: Callable[[], datetime] = instant, sources: KeySources | None = None
    ) -> None:
        self._store = store
        self._now = now
        self._sources = sources or KeySources()
        self._replays = Replays()
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Verified] = OrderedDict()

    def recognises(self, token: str) -> bool:
        """Whether the text has the shape of a signed JWT, three parts of base64url, and no more than LONGEST."""
        return len(token) <= LONGEST and _SHAPE.fullmatch(token) is not None

    def admit(self, token: str) -> tuple[Grant | None, object]:
        """What the token opens now, and the stamp of the store at which that was so; see `Way.admit`.

        Takes microseconds for a token that was seen before, unless its issuer wants each to be used once.
        """
        # As with our own tokens the stamp comes first: an entry may be too old, never too new.
        stamp = self._store.stamp(CONTROL)
        digest = sha256(token.encode()).digest()
        moment = self._now().timestamp()
        grant = self._remembered(digest, stamp, moment)
        if grant is not None:
            return grant, stamp
        try:
            return self._verified(token, digest, stamp, moment), stamp
        except _Refused as refused:
            log.debug("a JWT is refused: %s", refused)
            return None, stamp

    def _remembered(self, digest: bytes, stamp: object, moment: float) -> Grant | None:
        entry = self._known.get(digest)
        if entry is None or entry.stamp != stamp or moment >= entry.until:
            return None
        # A key that its issuer has withdrawn ends what was verified with it.
        if entry.source is not None and entry.source.current() is not entry.keys:
            return None
        return entry.grant

    def _verified(self, token: str, digest: bytes, stamp: object, moment: float) -> Grant:
        signed = _extracted(token)
        claims = _claims(signed, moment)
        record, grant = self._trusted(claims)
        if record is None:
            # An issuer that is not known costs what a known one does.
            _verifies(signed, _stand_in(signed.protected["alg"]))
            raise _Refused("no issuer is trusted for this iss and aud, or more than one")
        source, keys = self._keys(signed, record)
        if not _is_signed(signed, keys):
            raise _Refused(f"no key of the issuer {record.id} has signed it")
        if grant is None:
            raise _Refused(f"the tenant of the issuer {record.id} is no more")
        until = claims["exp"] + LEEWAY
        if record.replay:
            self._use(record, claims, until, moment)
        else:
            self._remember(digest, _Verified(stamp, grant, until, source, keys))
        return grant

    def _trusted(self, claims: Mapping[str, Any]) -> tuple[IssuerRecord | None, Grant | None]:
        """The only issuer that the claims name, and what the token opens there; the store is let go of at once."""
        audience = claims["aud"]
        with self._store.read(CONTROL) as control:
            found = trusted(control, claims["iss"], [audience] if isinstance(audience, str) else audience)
            if len(found) != 1:
                granted(control, _NOBODY)  # the same look at the store
                return None, None
            return found[0], granted(control, found[0].grant(_scopes(claims, found[0])))

    def _keys(self, signed: CompactSignature, record: IssuerRecord) -> tuple[KeySource | None, PublicKeys]:
        if record.jwks_url is None:
            return None, _stored_keys(record.keys or "")
        source = self._sources.of(record.id, record.jwks_url)
        return source, source.keys_for(signed.protected["alg"], signed.protected.get("kid"))

    def _use(self, record: IssuerRecord, claims: Mapping[str, Any], until: float, moment: float) -> None:
        name = claims.get("jti")
        if not isinstance(name, str) or not name:
            raise _Refused(f"the issuer {record.id} wants each token to be used once, and it has no jti")
        if not self._replays.first(record.id, name, until, moment):
            raise _Refused(f"it was used before, or the issuer {record.id} has too many that are still valid")

    def _remember(self, digest: bytes, entry: _Verified) -> None:
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
            raise _Refused("its alg is not RS256 or ES256")
        if not _NEVER.isdisjoint(header):
            raise _Refused("its header says where keys come from, or what must be understood")
        _REGISTRY.check_header(header)
    except (JoseError, ValueError, RecursionError) as error:
        raise _Refused("it is malformed") from error
    return signed


def _claims(signed: CompactSignature, moment: float) -> dict[str, Any]:
    """The claims, if they are what they must be and the token is in its time; nothing says yet who wrote them."""
    try:
        claims = orjson.loads(signed.payload)
        if not isinstance(claims, dict):
            raise _Refused("its claims are no object")
        required: Any = {name: {"essential": True} for name in ("iss", "aud", "exp", "iat")}
        checked = {name: claims[name] for name in (*required, "nbf") if name in claims}
        JWTClaimsRegistry(now=int(moment), leeway=LEEWAY, **required).validate(checked)
    except JoseError as error:
        raise _Refused(f"{error.error} of {getattr(error, 'claim', 'a claim')}") from error
    except ValueError as error:
        raise _Refused("its claims are no JSON") from error
    if not 0 < claims["exp"] - claims["iat"] <= LIFETIME:
        raise _Refused("it lives longer than a day, or ends before it begins")
    return claims


def _scopes(claims: Mapping[str, Any], record: IssuerRecord) -> frozenset[str]:
    """Those the token asks for that the issuer may have; all of these when it has no claim `scope`."""
    if "scope" not in claims:
        return record.scopes
    said = claims["scope"]
    asked = said.split() if isinstance(said, str) else said
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
        raise _Refused("its scope is neither text nor a list of texts")
    return frozenset(each for each in asked if each in SATISFIED_BY and allows(record.scopes, each))


def _is_signed(signed: CompactSignature, keys: PublicKeys) -> bool:
    header = signed.protected
    return any(_verifies(signed, key) for key in keys.fitting(header["alg"], header.get("kid")))


def _verifies(signed: CompactSignature, key: Key) -> bool:
    try:
        return validate_compact(signed, key, registry=_REGISTRY)
    except (JoseError, ValueError):
        return False


@lru_cache(maxsize=256)
def _stored_keys(text: str) -> PublicKeys:
    return public_keys(text.encode(), strict=True)


@lru_cache(maxsize=2)
def _stand_in(algorithm: str) -> Key:
    """A key that nobody has signed with."""
    if algorithm == ES256:
        return ECKey.generate_key("P-256", private=False)
    return RSAKey.import_key(RSAPublicNumbers(65537, secrets.randbits(2048) | 1 << 2047 | 1).public_key())
