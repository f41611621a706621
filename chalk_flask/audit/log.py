"""The audit of a store: what is noted outside of the transaction that did it, and how it is read again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import orjson

from backends import KEY, Backend, Compare, Query, StorageError
from chalk_flask.audit.events import COLLECTION, EVENTS, AuditValue, record_event, written
from chalk_flask.tenants.store import CONTROL, find_tenant
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "EVENTS", "AuditLog", "AuditValue", "audit_tenant", "record_event", "written"]

log = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 10.0
"""Seconds that an entry waits for another writer before it is given up."""

_PAGE = 500


class AuditLog:
    """The audit of a store: an append-only collection in each tenant. Safe for use by many threads at once."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def record(self, tenant: str, event: str, **facts: AuditValue) -> None:
        """Note that something was done to a tenant, after it was done.

        It is done whether or not this can be written: a failure is logged and not raised. Events of a tenant itself
        stand in CONTROL, where they outlive it.
        """
        try:
            home = CONTROL if event.startswith("tenant.") else audit_tenant(self._store, tenant)
            with self._store.write(home, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                record_event(transaction, tenant, event, self._now(), **facts)
        except StorageError as error:
            log.error("%s in tenant %s is missing in the audit: %s", event, tenant, type(error).__name__)

    def events(self, tenant: str, since: str = "") -> Iterator[dict[str, Any]]:
        """What was noted in a tenant (CONTROL is one) since a moment as `written` gives it, the oldest first.

        Each page is a snapshot of its own, so that a slow reader keeps nothing open. Raises StorageError.
        """
        last = since
        while True:
            with self._store.read(tenant) as snapshot:
                page = snapshot.find(Query(COLLECTION, Compare(KEY, ">", last), limit=_PAGE)).body()
            found = orjson.loads(b"[%s]" % page)
            if not found:
                return
            for entry in found:
                last = entry.pop("entry")
                yield entry


def audit_tenant(store: Backend, tenant: str) -> str:
    """Where what concerns a tenant is noted: there, or in CONTROL when it is no more. Raises StorageError."""
    with store.read(CONTROL) as control:
        return tenant if find_tenant(control, tenant) is not None else CONTROL
