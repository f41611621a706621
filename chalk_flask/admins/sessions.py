"""Sessions of administrators who have signed in to the console.

A session id is 128 random bits. Only its SHA-256 is stored, and it is the key of the session.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

import orjson

from backends import CONTROL, Backend, Compare, Record, Snapshot, Transaction
from chalk_flask.admins.browser import browser_name
from chalk_flask.admins.record import COLLECTION as ADMINISTRATORS
from chalk_flask.admins.record import Administrator
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.background.last_used import MIN_INTERVAL, LastUsedTracker
from chalk_flask.caching import LRUCache, VersionedCache
from chalk_flask.tenants.store import DEFAULT_TENANT, find_tenant
from chalk_flask.times import format_timestamp, parse_timestamp, utc_now

__all__ = ["COLLECTION", "Session", "SessionError", "SessionStore", "delete_sessions"]

COLLECTION = "sessions"

IDLE_TIMEOUT: Final = timedelta(minutes=30)
"""Time without a request after which a session ends."""
ABSOLUTE_TIMEOUT: Final = timedelta(hours=12)
"""Time after which a session ends in any case."""
CODE_TIMEOUT: Final = timedelta(minutes=10)
"""Time within which an administrator who uses one-time codes must enter one."""

MAX_CACHED_SESSIONS = 4096
LOCK_TIMEOUT_SECONDS = 10.0
"""Maximum time that a request waits for another writer."""

_SECRET = re.compile(r"[0-9a-f]{32}")


class SessionError(Exception):
    """Rejected change of a session. The message contains the reason and a remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Session of an administrator.

    `tenant` is the tenant whose pages are shown; an operator selects it. `administrator_tenant` is None for an
    operator. `browser` is the name of the browser. If `totp_done` is False, the one-time code is still missing.
    """

    id_hash: str
    administrator_id: str
    administrator_tenant: str | None
    tenant: str
    created: datetime
    last_seen: datetime
    expires: datetime
    address: str
    browser: str
    totp_done: bool

    def is_valid_at(self, time: datetime) -> bool:
        """Return True if the session has not ended at that time."""
        return time < self.expires and time < self.last_seen + IDLE_TIMEOUT

    def to_record(self) -> Record:
        """Return the record for the collection `sessions`; its key is the hash of the session id."""
        data = {
            "administrator": self.administrator_id,
            "tenant": self.administrator_tenant,
            "selected": self.tenant,
            "created": format_timestamp(self.created),
            "lastSeen": format_timestamp(self.last_seen),
            "expires": format_timestamp(self.expires),
            "address": self.address,
            "userAgent": self.browser,
            "totpDone": self.totp_done,
        }
        values = {name: data[name] for name in ("administrator", "tenant", "expires")}
        return Record(self.id_hash, orjson.dumps(data), values)

    @classmethod
    def parse(cls, id_hash: str, body: bytes) -> Self:
        """Return the session of a stored body."""
        data: Mapping[str, Any] = orjson.loads(body)
        return cls(
            id_hash=id_hash,
            administrator_id=data["administrator"],
            administrator_tenant=data["tenant"],
            tenant=data["selected"],
            created=parse_timestamp(data["created"]),
            last_seen=parse_timestamp(data["lastSeen"]),
            expires=parse_timestamp(data["expires"]),
            address=data["address"],
            browser=data["userAgent"],
            totp_done=data["totpDone"],
        )


class SessionStore:
    """Sessions of a store. Thread-safe. Every process rejects a session that has ended from its next request on.

    Methods that write raise StorageBusyError if another writer holds the lock for more than ten seconds.
    """

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self._cache: VersionedCache[str, Session] = VersionedCache(MAX_CACHED_SESSIONS)
        self._last_seen: LRUCache[str, datetime] = LRUCache(MAX_CACHED_SESSIONS)
        self._last_used = LastUsedTracker(store, CONTROL, COLLECTION, _with_last_use)

    def create(self, administrator: Administrator, address: str, user_agent: str | None) -> tuple[str, Session]:
        """Start a session of an administrator whose password or account was verified; return its id and the session.

        If the administrator uses one-time codes, the session lasts ten minutes, and `complete_totp` replaces it. Raises
        SessionError if the administrator was changed since then.
        """
        secret, now = secrets.token_hex(16), self._now()
        session = Session(
            id_hash=_hash(secret),
            administrator_id=administrator.id,
            administrator_tenant=administrator.tenant,
            tenant=DEFAULT_TENANT if administrator.tenant is None else administrator.tenant,
            created=now,
            last_seen=now,
            expires=now + (CODE_TIMEOUT if administrator.uses_totp else ABSOLUTE_TIMEOUT),
            address=address,
            browser=browser_name(user_agent),
            totp_done=not administrator.uses_totp,
        )
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            _require_unchanged(control, administrator)
            self._insert(control, session)
        return secret, session

    def complete_totp(self, session: Session) -> tuple[str, Session]:
        """Replace a session by one with a new id, after the one-time code was verified; return both.

        Raises SessionError if the session has ended.
        """
        secret, now = secrets.token_hex(16), self._now()
        completed = replace(
            session, id_hash=_hash(secret), created=now, last_seen=now, expires=now + ABSOLUTE_TIMEOUT, totp_done=True
        )
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            _require(control, session.id_hash)
            control.delete(COLLECTION, [session.id_hash])
            self._insert(control, completed)
        return secret, completed

    def find(self, secret: str, *, is_activity: bool = True) -> Session | None:
        """Return the session with this id; None for an unknown id and for an ended session.

        The use of the session is recorded, unless `is_activity` is False: a script sent the request on its own.
        """
        if not _SECRET.fullmatch(secret):
            return None
        # Take the version before the record is read: a commit in between makes the entry too old, never too new.
        version, key, now = self._store.version(CONTROL), _hash(secret), self._now()
        stored = self._cache.get(key, version) or self._read(key, version)
        session = self._with_recent_use(stored) if stored is not None else None
        if stored is None or session is None or not session.is_valid_at(now):
            return None
        if not is_activity:
            return session
        self._last_seen.put(key, now)
        self._last_used.record(key, stored.last_seen, now)
        return replace(session, last_seen=now)

    def list_of(self, administrator_id: str) -> Sequence[Session]:
        """Return the sessions of an administrator that have not ended, newest first."""
        with self._store.read(CONTROL) as control:
            stored = [self._with_recent_use(session) for session in _sessions_of(control, administrator_id)]
        now = self._now()
        valid = [session for session in stored if session.totp_done and session.is_valid_at(now)]
        return sorted(valid, key=lambda session: session.created, reverse=True)

    def end(self, id_hash: str) -> None:
        """End a session. Does nothing if it has ended."""
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            session = _get(control, id_hash)
            control.delete(COLLECTION, [id_hash])
            if session is not None:
                self._record(control, "session.ended", session, count=1)

    def end_all(self, administrator_id: str, except_hash: str | None = None) -> int:
        """End the sessions of an administrator, except the one with this hash, and return their number."""
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            ended = delete_sessions(control, administrator_id, except_hash)
            if ended:
                self._record(control, "session.ended", ended[0], count=len(ended))
        return len(ended)

    def select_tenant(self, id_hash: str, tenant: str) -> Session:
        """Show the pages of another tenant in a session of an operator, and return the session.

        Raises SessionError for an ended session, for an administrator of one tenant and for an unknown tenant.
        """
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            session = _require(control, id_hash)
            if session.administrator_tenant is not None:
                raise SessionError("only operators can select a tenant")
            if find_tenant(control, tenant) is None:
                raise SessionError(f"there is no tenant {tenant[:80]!r}: select another one")
            session = replace(session, tenant=tenant)
            control.put(COLLECTION, [session.to_record()])
        return session

    def close(self) -> None:
        """Write the times of the last requests. Call this before the store is closed. A second call does nothing."""
        self._last_used.close()

    def _insert(self, control: Transaction, session: Session) -> None:
        """Store a session and, if it is complete, the sign-in and its event. Delete sessions that have expired."""
        now = format_timestamp(self._now())
        control.delete(COLLECTION, list(control.keys(COLLECTION, Compare("expires", "<=", now))))
        control.put(COLLECTION, [session.to_record()])
        if session.totp_done:
            administrator = _get_administrator(control, session.administrator_id)
            control.put(ADMINISTRATORS, [replace(administrator, last_sign_in=session.created).to_record()])
            self._record(control, "session.started", session, address=session.address)

    def _read(self, key: str, version: object) -> Session | None:
        with self._store.read(CONTROL) as control:
            session = _get(control, key)
            if session is not None and find_tenant(control, session.tenant) is None:
                # The selected tenant was deleted. Administrators of one tenant never see another one.
                session = replace(session, tenant=DEFAULT_TENANT) if session.administrator_tenant is None else None
        if session is not None:
            self._cache.put(key, version, session)
        return session

    def _with_recent_use(self, session: Session) -> Session:
        """Return the session with the time of its last request, which may not be stored yet."""
        seen = self._last_seen.get(session.id_hash)
        return session if seen is None or seen <= session.last_seen else replace(session, last_seen=seen)

    def _record(self, control: Transaction, event: str, session: Session, **members: AuditValue) -> None:
        tenant = CONTROL if session.administrator_tenant is None else session.administrator_tenant
        record_event(control, tenant, event, self._now(), administrator=session.administrator_id, **members)


def delete_sessions(control: Transaction, administrator_id: str, except_hash: str | None = None) -> Sequence[Session]:
    """Delete the sessions of an administrator, except the one with this hash, and return them."""
    ended = [session for session in _sessions_of(control, administrator_id) if session.id_hash != except_hash]
    control.delete(COLLECTION, [session.id_hash for session in ended])
    return ended


def _require_unchanged(control: Snapshot, administrator: Administrator) -> None:
    """Raise SessionError if the password, the secret of one-time codes or the tenant was changed since."""
    stored = _get_administrator(control, administrator.id)
    if (stored.password_hash, stored.totp_secret, stored.tenant) != (
        administrator.password_hash,
        administrator.totp_secret,
        administrator.tenant,
    ):
        raise SessionError("the administrator was changed in the meantime: sign in again")


def _get_administrator(control: Snapshot, administrator_id: str) -> Administrator:
    body = control.get_many(ADMINISTRATORS, [administrator_id]).get(administrator_id)
    if body is None:
        raise SessionError("the administrator was deleted: sign in with another name")
    return Administrator.parse(body)


def _with_last_use(key: str, body: bytes, used: datetime) -> Record | None:
    session = Session.parse(key, body)
    if abs(used - session.last_seen) < MIN_INTERVAL:
        return None
    return replace(session, last_seen=used).to_record()


def _sessions_of(control: Snapshot, administrator_id: str) -> Iterator[Session]:
    keys = list(control.keys(COLLECTION, Compare("administrator", "=", administrator_id)))
    return (Session.parse(key, body) for key, body in control.get_many(COLLECTION, keys).items())


def _get(control: Snapshot, id_hash: str) -> Session | None:
    body = control.get_many(COLLECTION, [id_hash]).get(id_hash)
    return Session.parse(id_hash, body) if body is not None else None


def _require(control: Snapshot, id_hash: str) -> Session:
    session = _get(control, id_hash)
    if session is None:
        raise SessionError("the session has ended: sign in again")
    return session


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
