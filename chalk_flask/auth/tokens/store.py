"""Bearer tokens: made, listed, revoked and verified.

A token is `chk_live_` or `chk_test_`, 32 random hexadecimal digits, and 8 more that are the CRC-32 of what precedes, so
that a mistyped one is told apart without asking the store. Only its SHA-256 is kept. Tokens that were issued elsewhere
are brought along by their SHA-256; they begin with `chk_` too and may have any other shape.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256 as sha_256
from zlib import crc32

import orjson

from backends import MATCH_ALL, Backend, Compare, Query, Snapshot
from chalk_flask.audit.log import AuditLog
from chalk_flask.auth.tokens.last_used import LastUsedTracker
from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.tenants.store import CONTROL, TenantError, apply_tenant_rules, find_audit_tenant, require_tenant
from chalk_flask.times import utc_now

__all__ = [
    "COLLECTION",
    "CONTROL",
    "ApiToken",
    "Principal",
    "TokenError",
    "TokenStore",
    "has_valid_checksum",
    "token_hash",
]

COLLECTION = "tokens"

_KNOWN = 4096
_LABEL = 200
_SHOWN = len("chk_live_") + 4

_CHALK = re.compile(r"chk_[!-~]{1,252}")
_CHECKED = re.compile(r"chk_(?:live|test)_[0-9a-fA-F]{40}")
_SHA_256 = re.compile(r"[0-9a-f]{64}")


class TokenError(Exception):
    """A token cannot be made or revoked as asked; the message says why."""


class TokenStore:
    """The bearer tokens of a store. Safe for use by many threads at once."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self._audit = AuditLog(store, find_audit_tenant, now)
        self._last_used = LastUsedTracker(store, CONTROL, COLLECTION)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[object, ApiToken, Principal]] = OrderedDict()

    def create(
        self,
        label: str,
        scopes: Iterable[str],
        tenant: str = "default",
        expires: datetime | None = None,
        sha256: str | None = None,
        test: bool = False,
        limits: AccessRestrictions = NO_RESTRICTIONS,
    ) -> tuple[str | None, ApiToken]:
        """A new token and what is kept of it; with `sha256` a token issued elsewhere is let in, and none is shown.

        Raises TokenError for a label or hash that will not do, a tenant that does not exist, and a hash that is known
        already.
        """
        token = None if sha256 is not None else _generated(test)
        digest = token_hash(token) if token else _checked_digest(sha256 or "")
        record = ApiToken(
            id=secrets.token_hex(8),
            label=_checked_label(label),
            tenant=tenant,
            scopes=frozenset(scopes),
            restrictions=limits,
            prefix=token[:_SHOWN] if token else None,
            created=self._now(),
            expires=expires,
        )
        self._keep_new(record, digest)
        self._audit.record(
            record.tenant, "token.created", id=record.id, label=record.label, scopes=sort_scopes(record.scopes)
        )
        return token, record

    def list(self, tenant: str | None = None) -> Sequence[ApiToken]:
        """All tokens of a tenant, or of every one, the oldest first; expired and revoked ones are among them."""
        where = MATCH_ALL if tenant is None else Compare("tenant", "=", tenant)
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.find(Query(COLLECTION, where)).body()
        records = map(ApiToken.from_dict, orjson.loads(b"[%s]" % body))
        return sorted(records, key=lambda record: (record.created, record.id))

    def revoke(self, id: str) -> ApiToken:  # noqa: A002 - what it is called everywhere
        """End a token now, in every process. Revoking again changes nothing. Raises TokenError for an unknown id."""
        with self._store.write(CONTROL) as transaction:
            digest, record = _found(transaction, id)
            if record.revoked is not None:
                return record
            record = replace(record, revoked=self._now())
            transaction.put(COLLECTION, [record.to_record(digest)])
        self._audit.record(record.tenant, "token.revoked", id=record.id, label=record.label)
        return record

    def can_verify(self, token: str) -> bool:
        """Whether the text begins as our tokens do."""
        return token.startswith("chk_")

    def verify(self, token: str) -> Principal | None:
        """What the token lets its bearer do, or None when it is malformed, unknown, expired or revoked.

        Takes microseconds for a token that was seen before. Raises StorageError when the store cannot be read.
        """
        return self.authenticate(token)[0]

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """The same, and the stamp of the store at which that was so (None for a token that was not looked up)."""
        if not has_valid_checksum(token):
            return None, None
        # The stamp is taken before the record is read: a commit in between makes the entry too old, never too new.
        stamp = self._store.version(CONTROL)
        return self._valid(token_hash(token), stamp), stamp

    def _valid(self, digest: str, stamp: object) -> Principal | None:
        found = self._known_at(digest, stamp)
        if found is None:
            return None
        record, grant = found
        moment = self._now()
        if not record.valid_at(moment):
            return None
        self._last_used.record(digest, record.last_used, moment)
        return grant

    def _known_at(self, digest: str, stamp: object) -> tuple[ApiToken, Principal] | None:
        with self._lock:
            entry = self._known.get(digest)
            if entry is not None and entry[0] == stamp:
                self._known.move_to_end(digest)
                return entry[1], entry[2]
        return self._read(digest, stamp)

    def _read(self, digest: str, stamp: object) -> tuple[ApiToken, Principal] | None:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [digest]).get(digest)
            record = ApiToken.parse(body) if body is not None else None
            grant = apply_tenant_rules(snapshot, record.principal) if record is not None else None
        if record is None or grant is None:
            return None
        with self._lock:
            self._known[digest] = (stamp, record, grant)
            self._known.move_to_end(digest)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return record, grant

    def _keep_new(self, record: ApiToken, digest: str) -> None:
        with self._store.write(CONTROL) as transaction:
            try:
                require_tenant(transaction, record.tenant)
            except TenantError as error:
                raise TokenError(str(error)) from error
            for body in transaction.get_many(COLLECTION, [digest]).values():
                known = ApiToken.parse(body)
                raise TokenError(
                    f"the token with this SHA-256 is known already as {known.id} ({known.state_at(self._now())})"
                )
            transaction.put(COLLECTION, [record.to_record(digest)])


def has_valid_checksum(token: str) -> bool:
    """Whether the token has a shape that ours have, and the right checksum where its shape says that it has one."""
    if not _CHALK.fullmatch(token):
        return False
    return not _CHECKED.fullmatch(token) or token[-8:] == _checksum(token[:-8])


def token_hash(token: str) -> str:
    """The SHA-256 of a token in hexadecimal digits, under which it is kept."""
    return sha_256(token.encode()).hexdigest()


def _generated(test: bool) -> str:
    start = f"chk_{'test' if test else 'live'}_{secrets.token_hex(16)}"
    return start + _checksum(start)


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"


def _found(snapshot: Snapshot, token_id: str) -> tuple[str, ApiToken]:
    for digest in snapshot.keys(COLLECTION, Compare("id", "=", token_id)):
        return digest, ApiToken.parse(snapshot.get_many(COLLECTION, [digest])[digest])
    raise TokenError(f"there is no token with the id {token_id!r}; `token list` shows those there are")


def _checked_digest(text: str) -> str:
    digest = text.strip().lower()
    if not _SHA_256.fullmatch(digest):
        raise TokenError(f"a SHA-256 is 64 hexadecimal digits, not {len(text)} characters such as these")
    return digest


def _checked_label(text: str) -> str:
    label = text.strip()
    if not label or len(label) > _LABEL or not label.isprintable():
        raise TokenError(f"a label is a line of 1 to {_LABEL} printable characters that says who uses the token")
    return label
