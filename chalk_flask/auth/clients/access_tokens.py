"""Access tokens of OAuth clients: signed, not stored, and ended with their client (design section 6).

A token is a JWT (HS256) that names tenant, client and scopes. Whoever holds the key file can make them, nobody else.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.auth.tokens.store import token_hash
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import scope_satisfied, sort_scopes
from chalk_flask.times import utc_now

__all__ = ["ISSUER", "KEY_FILE_NAME", "AccessTokenIssuer"]

ISSUER = "urn:chalk-flask:access-token"
"""The `iss` of our own tokens, which no issuer that a tenant trusts can have: an issuer's name is an address."""

KEY_FILE_NAME = "access-tokens.key"
"""The name of the key file below the setting `data`."""

_ALGORITHM = "HS256"
_HEADER = {"alg": _ALGORITHM, "typ": "at+jwt"}
_LONGEST = 8192
_KNOWN = 4096


class _Claims(NamedTuple):
    """What a token says whose signature was right with that key."""

    key: bytes
    tenant: str
    client: str
    scopes: frozenset[str]
    expires: float


class AccessTokenIssuer:
    """A way in: the access tokens that this service issued. Safe for use by many threads at once."""

    def __init__(
        self, clients: ClientStore, key: KeyFile, seconds: int = 3600, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.seconds = seconds
        self._clients = clients
        self._key_file = key
        self._now = now
        self._key: tuple[bytes, OctKey] | None = None
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[object, _Claims, Principal | None]] = OrderedDict()

    def issue(self, client: str, tenant: str, scopes: frozenset[str]) -> str:
        """A new token for a client; earlier ones stay valid. Makes the key if there is none. Raises KeyFileError."""
        moment = int(self._now().timestamp())
        claims = {
            "iss": ISSUER,
            "tenant": tenant,
            "client": client,
            "scopes": sort_scopes(scopes),
            "iat": moment,
            "exp": moment + self.seconds,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(_HEADER, claims, self._imported(self._key_file.key()), [_ALGORITHM])

    def can_verify(self, token: str) -> bool:
        """Whether the text is a JWT that says it is ours."""
        parts = token.split(".", 3)
        if len(parts) != 3 or len(token) > _LONGEST:
            return False
        try:
            claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        except ValueError:
            return False
        return isinstance(claims, dict) and claims.get("iss") == ISSUER

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """What the token opens, and the stamp at which its client was looked up.

        Nothing for one that is not ours, expired, or whose client or tenant has ended. Raises StorageError and
        KeyFileError.
        """
        # The stamp is taken before the client is read: a commit in between makes the entry too old, never too new.
        stamp, digest, key = self._clients.version(), token_hash(token), self._key_file.existing()
        with self._lock:
            entry = self._known.get(digest)
        if entry is None or entry[0] != stamp or entry[1].key != key:
            claims = entry[1] if entry is not None and entry[1].key == key else self._verified(token, key)
            if claims is None:
                return None, stamp
            entry = (stamp, claims, self._granted(claims, stamp))
            self._remember(digest, entry)
        return (entry[2] if self._now().timestamp() < entry[1].expires else None), stamp

    def _granted(self, claims: _Claims, stamp: object) -> Principal | None:
        """The client may have lost something since the token was issued: both must allow what is done."""
        _, grant = self._clients.get_at(claims.client, stamp)
        if grant is None or grant.tenant != claims.tenant:
            return None
        return replace(
            grant, scopes=frozenset(scope for scope in claims.scopes if scope_satisfied(grant.scopes, scope))
        )

    def _verified(self, token: str, key: bytes | None) -> _Claims | None:
        if key is None:
            return None
        try:
            return _read(jwt.decode(token, self._imported(key), [_ALGORITHM]).claims, key)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _imported(self, key: bytes) -> OctKey:
        """The key as the library wants it."""
        held = self._key
        if held is None or held[0] != key:
            self._key = held = (key, OctKey.import_key(key))
        return held[1]

    def _remember(self, digest: str, entry: tuple[object, _Claims, Principal | None]) -> None:
        with self._lock:
            self._known[digest] = entry
            self._known.move_to_end(digest)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)


def _read(claims: dict[str, Any], key: bytes) -> _Claims | None:
    if claims["iss"] != ISSUER:
        return None
    scopes = frozenset(claims["scopes"])
    return _Claims(key, str(claims["tenant"]), str(claims["client"]), scopes, float(claims["exp"]))
