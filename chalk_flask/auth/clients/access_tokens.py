"""Access tokens of OAuth clients: JWTs (HS256) with tenant, client and scopes. They are signed and not stored.

Only a process that can read the key file can issue them.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import orjson
from joserfc import jwt
from joserfc.jwk import OctKey

from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.rejections import note_rejection
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.auth.tokens.store import token_hash
from chalk_flask.caching import LRUCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import includes_scope, sort_scopes
from chalk_flask.times import utc_now

__all__ = ["ACCESS_TOKEN_KEY_FILE", "AccessTokenIssuer"]

ISSUER = "urn:chalk-flask:access-token"
"""Claim `iss` of access tokens. `IssuerStore` accepts no issuer with this prefix."""

ACCESS_TOKEN_KEY_FILE = "access-tokens.key"
"""Name of the key file below the setting `data`."""

DEFAULT_LIFETIME_SECONDS = 3600
MAX_TOKEN_LENGTH = 8192
MAX_CACHED_TOKENS = 4096

_ALGORITHM = "HS256"
_HEADER = {"alg": _ALGORITHM, "typ": "at+jwt"}


class _Claims(NamedTuple):
    """Claims of a token whose signature was verified with `key`; `expires` is in epoch seconds."""

    key: bytes
    tenant: str
    client_id: str
    scopes: frozenset[str]
    expires: float


class _CacheEntry(NamedTuple):
    """Verified claims, and the principal of the token at one version of the control tenant."""

    version: object
    claims: _Claims
    principal: Principal | None


class AccessTokenIssuer:
    """Issuer and verifier of access tokens. Thread-safe."""

    credential_type: ClassVar[str] = "client"

    def __init__(
        self,
        clients: ClientStore,
        key_file: KeyFile,
        lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.lifetime_seconds = lifetime_seconds
        self._clients = clients
        self._key_file = key_file
        self._now = now
        self._key: tuple[bytes, OctKey] | None = None
        self._cache: LRUCache[str, _CacheEntry] = LRUCache(MAX_CACHED_TOKENS)

    def issue(self, client_id: str, tenant: str, scopes: frozenset[str]) -> str:
        """Create a token for a client. Earlier tokens stay valid.

        Creates the key if there is none. Raises KeyFileError.
        """
        now = int(self._now().timestamp())
        claims = {
            "iss": ISSUER,
            "tenant": tenant,
            "client": client_id,
            "scopes": sort_scopes(scopes),
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(_HEADER, claims, self._import_key(self._key_file.read_or_create()), [_ALGORITHM])

    def can_verify(self, token: str) -> bool:
        """Return True if the token is a JWT that names this service as its issuer."""
        parts = token.split(".", 3)
        if len(parts) != 3 or len(token) > MAX_TOKEN_LENGTH:
            return False
        try:
            claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        except ValueError:
            return False
        return isinstance(claims, dict) and claims.get("iss") == ISSUER

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal of a token, and the store version at which its client was read.

        The principal is None for a forged or expired token, and if the client is revoked or its tenant was deleted.
        Raises StorageError and KeyFileError.
        """
        # Take the version before the client is read: a commit in between makes the entry too old, never too new.
        version, cache_key, key = self._clients.version(), token_hash(token), self._key_file.read()
        entry = self._cache.get(cache_key)
        if entry is None or entry.version != version or entry.claims.key != key:
            claims = entry.claims if entry is not None and entry.claims.key == key else self._verify(token, key)
            if claims is None:
                note_rejection("the access token is not signed with the key of this service")
                return None, version
            entry = _CacheEntry(version, claims, self._principal_at(claims, version))
            self._cache.put(cache_key, entry)
        if not self._now().timestamp() < entry.claims.expires:  # also true if `exp` is not a number
            note_rejection(f"the access token of client {entry.claims.client_id} is expired")
            return None, version
        if entry.principal is None:
            note_rejection(f"the client {entry.claims.client_id} is revoked, or its tenant is deleted")
        return entry.principal, version

    peek = authenticate

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal with the rules of now; None if the client has ended. Raises StorageError.

        The client may also have signed its request (OAuth 1.0a).
        """
        version = self._clients.version()
        return self._limited_client(principal.credential_id, principal.tenant, principal.scopes, version)

    def _principal_at(self, claims: _Claims, version: object) -> Principal | None:
        """Return the principal with the scopes that both the token and, at this version, its client have."""
        return self._limited_client(claims.client_id, claims.tenant, claims.scopes, version)

    def _limited_client(
        self, client_id: str, tenant: str, allowed: frozenset[str], version: object
    ) -> Principal | None:
        """Return the client of that tenant at a version, with those of the allowed scopes that it has."""
        _, principal = self._clients.find_at_version(client_id, version)
        if principal is None or principal.tenant != tenant:
            return None
        return replace(
            principal, scopes=frozenset(scope for scope in allowed if includes_scope(principal.scopes, scope))
        )

    def _verify(self, token: str, key: bytes | None) -> _Claims | None:
        if key is None:
            return None
        try:
            return _parse_claims(jwt.decode(token, self._import_key(key), [_ALGORITHM]).claims, key)
        except Exception:  # noqa: BLE001 - a check that fails for any reason has not verified the token
            return None

    def _import_key(self, key: bytes) -> OctKey:
        cache = self._key
        if cache is None or cache[0] != key:
            self._key = cache = (key, OctKey.import_key(key))
        return cache[1]


def _parse_claims(claims: dict[str, Any], key: bytes) -> _Claims | None:
    if claims["iss"] != ISSUER:
        return None
    scopes = frozenset(claims["scopes"])
    return _Claims(key, str(claims["tenant"]), str(claims["client"]), scopes, float(claims["exp"]))
