"""Store of API tokens.

A token is `chk_live_` or `chk_test_`, 32 random hexadecimal digits, and the CRC-32 of these parts in 8 digits.
The checksum rejects a mistyped token without reading the store. Only the SHA-256 of a token is stored. A token of
another service can be registered by its SHA-256; it begins with `chk_` and may have any other shape.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256 as sha_256
from typing import ClassVar
from zlib import crc32

from backends import Backend, Compare, Record, Snapshot
from chalk_flask.auth.credential_store import RevocableCredentialStore
from chalk_flask.auth.rejections import note_rejection
from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.background.last_used import MIN_INTERVAL, LastUsedTracker
from chalk_flask.caching import VersionedCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "TokenError", "TokenStore", "token_hash", "with_last_use"]

COLLECTION = "tokens"

MAX_CACHED_TOKENS = 4096
PREFIX_LENGTH = len("chk_live_") + 4
"""Characters of a token that are stored and shown."""

_TOKEN = re.compile(r"chk_[!-~]{1,252}")
_TOKEN_WITH_CHECKSUM = re.compile(r"chk_(?:live|test)_[0-9a-fA-F]{40}")
_SHA_256 = re.compile(r"[0-9a-f]{64}")


class TokenError(Exception):
    """Error of creating or revoking a token; the message contains the reason and a remedy."""


class TokenStore(RevocableCredentialStore[ApiToken]):
    """API tokens of a store. Thread-safe."""

    collection = COLLECTION
    kind = "token"
    error = TokenError
    credential_class = ApiToken
    credential_type: ClassVar[str] = "token"

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(store, now)
        self._last_used = LastUsedTracker(store, CONTROL, COLLECTION, with_last_use)
        self._cache: VersionedCache[str, tuple[ApiToken, Principal]] = VersionedCache(MAX_CACHED_TOKENS)

    def create(
        self,
        label: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        expires: datetime | None = None,
        sha256: str | None = None,
        test: bool = False,
        restrictions: AccessRestrictions = NO_RESTRICTIONS,
        command: str | None = None,
    ) -> tuple[str | None, ApiToken]:
        """Create a token, and return it and its stored form. `command` is the command that creates it for itself.

        With `sha256` a token of another service is registered by its hash, and the first value is None.

        Raises TokenError for an invalid label or hash, an unknown tenant, and a hash that is already stored.
        """
        token = None if sha256 is not None else _generate_token(test)
        key = token_hash(token) if token else _parse_hash(sha256 or "")
        record = ApiToken(
            id=secrets.token_hex(8),
            label=self._parse_label(label),
            tenant=tenant,
            scopes=frozenset(scopes),
            restrictions=restrictions,
            prefix=token[:PREFIX_LENGTH] if token else None,
            command=command,
            created=self._now(),
            expires=expires,
        )
        self._insert(key, record)
        return token, record

    def rotate(self, token_id: str, overlap: timedelta) -> tuple[str, ApiToken, ApiToken]:
        """Create a token that replaces another one. Return the token, its stored form, and that of the former token.

        The token has a new id and the label, scopes, restrictions and lifetime of the former token. The former token
        stays valid for the overlap, unless it ends earlier. With an overlap of zero it is revoked.

        Raises TokenError for an unknown, expired or revoked token.
        """
        now = self._now()
        with self._store.write(CONTROL) as transaction:
            key, former = self._find(transaction, token_id)
            if not former.is_valid_at(now):
                raise TokenError(f"the token {former.id} is {former.state_at(now)}: create another one")
            value, new_key, new = self._replacement(former, now)
            ended = _ended(former, now, overlap)
            transaction.put(COLLECTION, [ended.to_record(key), new.to_record(new_key)])
            self._record(transaction, "token.rotated", former, replacement=new.id)
        return value, new, ended

    @staticmethod
    def _replacement(former: ApiToken, now: datetime) -> tuple[str, str, ApiToken]:
        """Return a new token, its hash, and its stored form."""
        value = _generate_token(test=(former.prefix or "").startswith("chk_test_"))
        new = replace(
            former,
            id=secrets.token_hex(8),
            prefix=value[:PREFIX_LENGTH],
            created=now,
            expires=None if former.expires is None else now + (former.expires - former.created),
            last_used=None,
        )
        return value, token_hash(value), new

    def can_verify(self, token: str) -> bool:
        """Return True if the token begins as API tokens do."""
        return token.startswith("chk_")

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal of the token, and the store version at which it was read (None: not read).

        The principal is None for a malformed, unknown, expired or revoked token. Raises StorageError.
        """
        if not _has_valid_checksum(token):
            note_rejection("the API token is malformed")
            return None, None
        # Take the version before the record is read: a commit in between makes the entry too old, never too new.
        version = self._store.version(CONTROL)
        return self._principal_at(token_hash(token), version), version

    peek = authenticate

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal with the rules of now; None if the token has ended. Raises StorageError."""
        with self._store.read(CONTROL) as snapshot:
            key = self._key_of(snapshot, principal.credential_id)
            body = snapshot.get_many(COLLECTION, [key]).get(key) if key is not None else None
            token = ApiToken.parse(body) if body is not None else None
            if token is None or not token.is_valid_at(self._now()):
                return None
            return apply_tenant_rules(snapshot, token.principal)

    def _principal_at(self, key: str, version: object) -> Principal | None:
        entry = self._cache.get(key, version) or self._read(key, version)
        if entry is None:
            return None
        token, principal = entry
        now = self._now()
        if not token.is_valid_at(now):
            note_rejection(f"the API token {token.id} is {token.state_at(now)}")
            return None
        self._last_used.record(key, token.last_used, now)
        return principal

    def _read(self, key: str, version: object) -> tuple[ApiToken, Principal] | None:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [key]).get(key)
            token = ApiToken.parse(body) if body is not None else None
            principal = apply_tenant_rules(snapshot, token.principal) if token is not None else None
        if token is None or principal is None:
            note_rejection(
                "the API token is unknown" if token is None else f"the tenant of API token {token.id} is deleted"
            )
            return None
        self._cache.put(key, version, (token, principal))
        return token, principal

    def _insert(self, key: str, record: ApiToken) -> None:
        with self._store.write(CONTROL) as transaction:
            self._require_tenant(transaction, record.tenant)
            for body in transaction.get_many(COLLECTION, [key]).values():
                stored = ApiToken.parse(body)
                raise TokenError(
                    f"the token with this SHA-256 is already stored as {stored.id} ({stored.state_at(self._now())})"
                )
            transaction.put(COLLECTION, [record.to_record(key)])
            self._record_created(transaction, "token.created", record)

    def _key_of(self, control: Snapshot, credential_id: str) -> str | None:
        return next(control.keys(COLLECTION, Compare("id", "=", credential_id)), None)


def _ended(token: ApiToken, now: datetime, overlap: timedelta) -> ApiToken:
    """Return a token that ends after the overlap."""
    if not overlap:
        return replace(token, revoked=now)
    end = now + overlap
    return replace(token, expires=min(token.expires or end, end))


def token_hash(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal digits, the key of its record."""
    return sha_256(token.encode()).hexdigest()


def with_last_use(key: str, body: bytes, used: datetime) -> Record | None:
    """Return the record of a stored token with the time of a use; None if a use within a minute is stored."""
    token = ApiToken.parse(body)
    if token.last_used is not None and abs(used - token.last_used) < MIN_INTERVAL:
        return None
    return replace(token, last_used=used).to_record(key)


def _has_valid_checksum(token: str) -> bool:
    if not _TOKEN.fullmatch(token):
        return False
    return not _TOKEN_WITH_CHECKSUM.fullmatch(token) or token[-8:] == _checksum(token[:-8])


def _generate_token(test: bool) -> str:
    start = f"chk_{'test' if test else 'live'}_{secrets.token_hex(16)}"
    return start + _checksum(start)


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"


def _parse_hash(text: str) -> str:
    normalized = text.strip().lower()
    if not _SHA_256.fullmatch(normalized):
        raise TokenError(f"invalid SHA-256 of {len(text)} characters: it must be 64 hexadecimal digits")
    return normalized
