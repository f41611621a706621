"""Audit events of logins and failed sign-ins, counted before they are stored: an attacker cannot fill the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from backends import CONTROL, Backend, StorageError, StorageUnavailableError
from chalk_flask.audit.events import record_event
from chalk_flask.background.batch_writer import BatchWriter
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["MAX_TRACKED_LOGINS", "FindAuditTenant", "LoginLog"]

log = logging.getLogger(__name__)

FindAuditTenant: TypeAlias = Callable[[Backend, str], str]
"""Function that returns the tenant that stores the logins of a tenant: itself, or CONTROL if it does not exist."""

EVENT_INTERVAL_SECONDS = 60.0
"""Minimum time between two events of the same caller, address and result. Logins in between are counted."""
MAX_TRACKED_LOGINS = 256
"""Maximum number of callers and addresses within EVENT_INTERVAL_SECONDS.

Further logins are counted in one event of each name, without caller and address.
"""
LOCK_TIMEOUT_SECONDS = 1.0


class _Login(NamedTuple):
    tenant: str
    event: str
    kind: str
    """Kind of caller: the member of the event that contains the id of the caller."""
    caller: str | None
    address: str | None


class LoginLog:
    """Log of logins of OAuth clients and failed sign-ins of administrators. Thread-safe.

    A background thread stores the events.

    The member `count` of an event is the number of logins that it represents. While an import locks the store, events
    stay in memory and are stored later.
    """

    def __init__(
        self,
        store: Backend,
        find_audit_tenant: FindAuditTenant,
        interval: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._find_audit_tenant = find_audit_tenant
        self._interval = interval
        self._now = now
        self._lock = threading.Lock()
        self._pending: Counter[_Login] = Counter()
        self._stored: dict[_Login, float] = {}
        self._errors = RepeatedErrors()
        self._writer = BatchWriter("login log", self._write_due, delay=interval, flush_at_exit=True)

    def record_success(self, tenant: str, client: str) -> None:
        """Count a login of a client that received a token."""
        self._count(_Login(tenant, "login.succeeded", "client", client, None))

    def record_failure(self, tenant: str | None, client: str | None, address: str) -> None:
        """Count a failed login from an address. Pass None for tenant and client if the client is unknown.

        Never pass an unknown client id: it may be a secret that was sent in the wrong place.
        """
        self._count(_Login(tenant or CONTROL, "login.failed", "client", client, address))

    def record_failed_sign_in(self, tenant: str | None, administrator: str | None, address: str) -> None:
        """Count a wrong password or code from an address. `administrator` is the id of the administrator.

        Pass None for both if there is no administrator of the name. Never pass the name: it may be a password.
        """
        self._count(_Login(tenant or CONTROL, "sign_in.failed", "administrator", administrator, address))

    def close(self) -> None:
        """Store the pending events and end the thread. Call this before the store is closed; again is harmless."""
        self._writer.close()

    def _count(self, login: _Login) -> None:
        with self._lock:
            if login not in self._pending and self._is_full():
                self._expire()
                if self._is_full():
                    login = _Login(CONTROL, login.event, login.kind, None, None)
            self._pending[login] += 1
        self._writer.wake()

    def _is_full(self) -> bool:
        return len(self._stored.keys() | self._pending.keys()) >= MAX_TRACKED_LOGINS

    def _expire(self) -> None:
        oldest = self._now() - EVENT_INTERVAL_SECONDS
        self._stored = {login: stored for login, stored in self._stored.items() if stored > oldest}

    def _write_due(self) -> float | None:
        self._write(self._take_due())
        with self._lock:
            return self._interval if self._pending else None

    def _take_due(self) -> Counter[_Login]:
        with self._lock:
            self._expire()
            due = [login for login in self._pending if self._writer.is_closing or login not in self._stored]
            self._stored.update((login, self._now()) for login in due)
            return Counter({login: self._pending.pop(login) for login in due})

    def _write(self, logins: Counter[_Login]) -> None:
        by_tenant: defaultdict[str, list[_Login]] = defaultdict(list)
        for login in logins:
            by_tenant[login.tenant].append(login)
        for tenant, group in by_tenant.items():
            try:
                owner = self._find_audit_tenant(self._store, tenant)
                with self._store.write(owner, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                    for login in group:
                        names = {login.kind: login.caller, "address": login.address}
                        members: dict[str, Any] = {**names, "count": logins[login]}
                        record_event(transaction, tenant, login.event, **members)
                self._errors.clear()
            except StorageError as error:
                self._put_back(group, logins)
                self._log_error(len(group), error)

    def _log_error(self, count: int, error: StorageError) -> None:
        """Log a failure of the storage as a warning, repeated ones and a busy store at level debug."""
        message = str(error) if isinstance(error, StorageUnavailableError) else ""
        level = self._errors.level(message)
        log.log(level, "%d login events are stored later: %s", count, message or type(error).__name__)

    def _put_back(self, group: list[_Login], logins: Counter[_Login]) -> None:
        with self._lock:
            for login in group:
                self._pending[login] += logins[login]
                self._stored.pop(login, None)
