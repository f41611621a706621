"""Verifier of the JWTs of trusted issuers as bearer tokens (RFC 7519, RFC 8725), such as those of LTI Advantage tools.

A token cannot choose how it is verified. There are two algorithms, and every key has one of them. Keys come only
from the source that the operator configured. A token whose header contains keys or points to keys is rejected.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, ClassVar

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import CompactSignature
from joserfc.jwt import JWTClaimsRegistry

from backends import Backend
from chalk_flask.auth.jwt.issuers import COLLECTION, TrustedIssuer, find_trusted
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.auth.jwt.jwks import ES256, JwkSet, PublicKey, parse_jwk_set
from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache
from chalk_flask.auth.jwt.jwks_refresher import JwksRefresher
from chalk_flask.auth.jwt.signed_token import RejectedTokenError, is_signed_by, is_signed_by_any, parse_signed_token
from chalk_flask.auth.rejections import note_rejection
from chalk_flask.caching import LRUCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import includes_scope, known_scopes
from chalk_flask.shared_state import SharedState
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["JwtVerifier"]

log = logging.getLogger(__name__)

MAX_TOKEN_LENGTH = 8 * 1024
"""Maximum length of a token with header, claims and signature."""
LEEWAY_SECONDS = 60
"""Tolerated difference between the clocks of issuer and server."""
MAX_LIFETIME_SECONDS = 24 * 60 * 60
"""Maximum time between `iat` and `exp`."""
MAX_CACHED_TOKENS = 4096

_NO_PRINCIPAL = Principal(DEFAULT_TENANT, frozenset(), "")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class _CachedToken:
    """Verified token: the store version and the keys that it was verified with. `expires` is in epoch seconds."""

    version: object
    principal: Principal
    expires: float
    remote_jwks: RemoteJwks | None
    keys: JwkSet


class JwtVerifier:
    """Verifier of the JWTs of the trusted issuers of a store. Thread-safe.

    From `start` to `close` a thread keeps the published keys of all issuers up to date. Without it, the first token of
    an issuer starts the fetch of its keys, and is rejected.
    """

    credential_type: ClassVar[str] = "issuer"

    def __init__(
        self,
        store: Backend,
        now: Callable[[], datetime] = utc_now,
        jwks_cache: RemoteJwksCache | None = None,
        shared_state: SharedState | None = None,
    ) -> None:
        self._store = store
        self._now = now
        self._jwks_cache = jwks_cache or RemoteJwksCache(shared_state)
        self._used_jtis = JtiCache(shared_state=shared_state, name="issuer")
        self._cache: LRUCache[bytes, _CachedToken] = LRUCache(MAX_CACHED_TOKENS)
        self._refresher = JwksRefresher(store, self._jwks_cache)

    def start(self) -> None:
        """Start fetching the keys of issuers in the background. Call it once."""
        self._refresher.start()

    def close(self) -> None:
        """Stop fetching keys."""
        self._refresher.close()

    def can_verify(self, token: str) -> bool:
        """Return True if the token has the shape of a signed JWT: three parts of base64url, at most 8 KiB."""
        return len(token) <= MAX_TOKEN_LENGTH and _JWT.fullmatch(token) is not None

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal of a valid token, else None, and the store version that was read.

        Raises StorageError.
        """
        return self._authenticate(token, uses_up=True)

    def peek(self, token: str) -> tuple[Principal | None, object]:
        """Return the same as `authenticate`, but do not use up a token for single use. Raises StorageError."""
        return self._authenticate(token, uses_up=False)

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal with the rules of now; None if its issuer was removed. Raises StorageError."""
        key = principal.credential_id
        with self._store.read(CONTROL) as control:
            body = control.get_many(COLLECTION, [key]).get(key)
            if body is None:
                return None
            issuer = TrustedIssuer.parse(body)
            scopes = frozenset(scope for scope in principal.scopes if includes_scope(issuer.scopes, scope))
            return apply_tenant_rules(control, issuer.principal(scopes))

    def _authenticate(self, token: str, *, uses_up: bool) -> tuple[Principal | None, object]:
        # Take the version before the issuer is read: a commit in between makes the entry too old, never too new.
        version = self._store.version(CONTROL)
        token_hash = sha256(token.encode()).digest()
        now = self._now().timestamp()
        principal = self._find_cached(token_hash, version, now)
        if principal is not None:
            return principal, version
        try:
            return self._verify(token, token_hash, version, now, uses_up=uses_up), version
        except RejectedTokenError as error:
            note_rejection(f"a JWT is rejected: {error}")
            return None, version

    def _find_cached(self, token_hash: bytes, version: object, now: float) -> Principal | None:
        entry = self._cache.peek(token_hash)
        if entry is None or entry.version != version or now >= entry.expires:
            return None
        # If the issuer withdraws a key, the tokens that were verified with it become invalid.
        if entry.remote_jwks is not None and entry.remote_jwks.current() is not entry.keys:
            return None
        return entry.principal

    def _verify(self, token: str, token_hash: bytes, version: object, now: float, *, uses_up: bool) -> Principal:
        signature = parse_signed_token(token)
        claims = _parse_claims(signature, now)
        issuer, principal = self._find_issuer(claims)
        if issuer is None:
            # Verify with a stand-in key: an unknown issuer takes as long as a known one.
            is_signed_by(signature, _stand_in_key(signature.protected["alg"]))
            raise RejectedTokenError("no issuer is trusted for this iss and aud, or more than one")
        remote_jwks, keys = self._find_keys(signature, issuer)
        if not is_signed_by_any(signature, keys):
            raise RejectedTokenError(f"no key of the issuer {issuer.id} matches the signature")
        if principal is None:
            raise RejectedTokenError(f"the tenant of the issuer {issuer.id} was deleted")
        expires = claims["exp"] + LEEWAY_SECONDS
        if issuer.single_use and uses_up:
            self._use(issuer, claims, expires, now)
        elif not issuer.single_use:
            self._cache.put(token_hash, _CachedToken(version, principal, expires, remote_jwks, keys))
        return principal

    def _find_issuer(self, claims: Mapping[str, Any]) -> tuple[TrustedIssuer | None, Principal | None]:
        """Return the only issuer for these claims and the principal, both None if there are none or several."""
        audience = claims["aud"]
        with self._store.read(CONTROL) as control:
            issuers = find_trusted(control, claims["iss"], [audience] if isinstance(audience, str) else audience)
            if len(issuers) != 1:
                apply_tenant_rules(control, _NO_PRINCIPAL)  # reads as much as for a known issuer
                return None, None
            [issuer] = issuers
            return issuer, apply_tenant_rules(control, issuer.principal(_requested_scopes(claims, issuer)))

    def _find_keys(self, signature: CompactSignature, issuer: TrustedIssuer) -> tuple[RemoteJwks | None, JwkSet]:
        if issuer.jwks_url is None:
            return None, _parse_stored_jwks(issuer.jwks or "")
        remote_jwks = self._jwks_cache.get(issuer.id, issuer.jwks_url)
        return remote_jwks, remote_jwks.keys_for(signature.protected["alg"], signature.protected.get("kid"))

    def _use(self, issuer: TrustedIssuer, claims: Mapping[str, Any], expires: float, now: float) -> None:
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise RejectedTokenError(f"the issuer {issuer.id} is for single use, which requires a jti")
        if not self._used_jtis.check_and_remember(issuer.id, jti, expires, now):
            raise RejectedTokenError(f"it was used before, or too many tokens of the issuer {issuer.id} are in use")


def _parse_claims(signature: CompactSignature, now: float) -> dict[str, Any]:
    """Return the claims of a token if they are complete and valid now. The signature is not verified yet.

    See docs/conformance, J-02.
    """
    try:
        claims = orjson.loads(signature.payload)
        if not isinstance(claims, dict):
            raise RejectedTokenError("its claims are not an object")
        required: Any = {name: {"essential": True} for name in ("iss", "aud", "exp", "iat")}
        checked = {name: claims[name] for name in (*required, "nbf") if name in claims}
        JWTClaimsRegistry(now=int(now), leeway=LEEWAY_SECONDS, **required).validate(checked)
    except JoseError as error:
        raise RejectedTokenError(f"{error.error} of {getattr(error, 'claim', 'a claim')}") from error
    except ValueError as error:
        raise RejectedTokenError("its claims are not JSON") from error
    if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFETIME_SECONDS:
        raise RejectedTokenError("its lifetime is longer than a day, or not positive")
    return claims


def _requested_scopes(claims: Mapping[str, Any], issuer: TrustedIssuer) -> frozenset[str]:
    """Return the scopes of the claim `scope` that the issuer has; without the claim, all scopes of the issuer.

    See docs/conformance, J-01.
    """
    if "scope" not in claims:
        return issuer.scopes
    scope = claims["scope"]
    names = scope.split() if isinstance(scope, str) else scope
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RejectedTokenError("its scope is neither text nor a list of texts")
    return frozenset(scope for scope in known_scopes(names) if includes_scope(issuer.scopes, scope))


@lru_cache(maxsize=256)
def _parse_stored_jwks(text: str) -> JwkSet:
    return parse_jwk_set(text.encode(), strict=True)


@lru_cache(maxsize=2)
def _stand_in_key(algorithm: str) -> PublicKey:
    """Return a key that has signed no token."""
    if algorithm == ES256:
        return ECKey.generate_key("P-256", private=False)
    return RSAKey.import_key(RSAPublicNumbers(65537, secrets.randbits(2048) | 1 << 2047 | 1).public_key())
