"""Logins of clients, gathered before they are noted: whoever guesses secrets must not be able to fill the disk."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from backends import CONTROL, Backend, StorageError
from chalk_flask.audit.events import record_event
from chalk_flask.audit.log import FindAuditTenant

__all__ = ["MOST", "LoginLog"]

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two entries on the same client, address and outcome; what comes in between is counted."""
MOST = 256
"""Pairs of client and address that are told apart at a time; what is beyond is one entry that names none."""

WAIT = 1.0


class _LoginAttempt(NamedTuple):
    tenant: str
    event: str
    client: str | None
    address: str | None


class LoginLog:
    """Notes logins in a thread that lives while there is work; entries carry the `count` of what they stand for.

    What cannot be written now, because an import holds the store, is written later.
    """

    def __init__(
        self,
        store: Backend,
        find_audit_tenant: FindAuditTenant,
        every: float = EVERY,
        gather: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._find_audit_tenant = find_audit_tenant
        self._every = every
        self._gather = gather
        self._now = now
        self._lock = threading.Lock()
        self._pending: Counter[_LoginAttempt] = Counter()
        self._noted: dict[_LoginAttempt, float] = {}
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None

    def succeeded(self, tenant: str, client: str) -> None:
        """A client showed its credentials and got a token."""
        self._take(_LoginAttempt(tenant, "login.succeeded", client, None))

    def failed(self, tenant: str | None, client: str | None, address: str) -> None:
        """Wrong credentials came from an address; for a client that is not known give neither tenant nor client.

        Never give an id that is not known: it may be somebody's secret in the wrong place.
        """
        self._take(_LoginAttempt(tenant or CONTROL, "login.failed", client, address))

    def close(self) -> None:
        """Write what is left, and end the thread. To be called before the store is closed; twice is harmless."""
        self._closing.set()
        writer = self._writer
        if writer is not None:
            writer.join(5)
        self._write(self._taken(everything=True))
        atexit.unregister(self.close)

    def _take(self, login: _LoginAttempt) -> None:
        with self._lock:
            if login not in self._pending and len(self._noted.keys() | self._pending.keys()) >= MOST:
                self._forget()
                if len(self._noted.keys() | self._pending.keys()) >= MOST:
                    login = _LoginAttempt(CONTROL, login.event, None, None)
            self._pending[login] += 1
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write_on, name="audit of logins", daemon=True)
                self._writer.start()
                atexit.unregister(self.close)  # there is one call at the end, however often a thread was started
                atexit.register(self.close)

    def _write_on(self) -> None:
        while not self._closing.wait(self._gather):
            self._write(self._taken())
            with self._lock:
                if not self._pending:
                    self._writer = None
                    return

    def _taken(self, everything: bool = False) -> Counter[_LoginAttempt]:
        with self._lock:
            self._forget()
            due = [login for login in self._pending if everything or login not in self._noted]
            self._noted.update((login, self._now()) for login in due)
            return Counter({login: self._pending.pop(login) for login in due})

    def _forget(self) -> None:
        late = self._now() - self._every
        self._noted = {login: noted for login, noted in self._noted.items() if noted > late}

    def _write(self, logins: Counter[_LoginAttempt]) -> None:
        by_tenant: defaultdict[str, list[_LoginAttempt]] = defaultdict(list)
        for login in logins:
            by_tenant[login.tenant].append(login)
        for tenant, group in by_tenant.items():
            try:
                with self._store.write(self._find_audit_tenant(self._store, tenant), wait=WAIT) as transaction:
                    for login in group:
                        named = {"client": login.client, "address": login.address}
                        facts: dict[str, Any] = {**named, "count": logins[login]}
                        record_event(transaction, tenant, login.event, **facts)
            except StorageError as error:
                self._put_back(group, logins)
                log.debug("%d logins wait to be noted: %s", len(group), type(error).__name__)

    def _put_back(self, group: list[_LoginAttempt], logins: Counter[_LoginAttempt]) -> None:
        with self._lock:
            for login in group:
                self._pending[login] += logins[login]
                self._noted.pop(login, None)
