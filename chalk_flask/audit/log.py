"""Audit events that are recorded after the transaction that caused them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from backends import CONTROL, Backend, StorageError, StorageUnavailableError
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.times import utc_now

__all__ = ["AuditLog", "FindAuditTenant"]

log = logging.getLogger(__name__)

FindAuditTenant: TypeAlias = Callable[[Backend, str], str]
"""Function that returns the tenant that stores the events of a tenant: itself, or CONTROL if it does not exist."""

LOCK_TIMEOUT_SECONDS = 10.0
"""Maximum time to wait for another writer before an event is dropped."""


class AuditLog:
    """Audit log of a store: an append-only collection in each tenant. Thread-safe."""

    def __init__(
        self, store: Backend, find_audit_tenant: FindAuditTenant, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._store = store
        self._find_audit_tenant = find_audit_tenant
        self._now = now

    def record(self, tenant: str, event: str, **members: AuditValue) -> None:
        """Store an event in its tenant. Call this after the reported change is committed.

        A StorageError is logged instead of raised, because the caller cannot undo the commit. Events `tenant.*` are
        stored in CONTROL, where they outlive the tenant. Raises ValueError for an event that is not in EVENTS.
        """
        try:
            owner = CONTROL if event.startswith("tenant.") else self._find_audit_tenant(self._store, tenant)
            with self._store.write(owner, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                record_event(transaction, tenant, event, self._now(), **members)
        except StorageError as error:
            reason = error if isinstance(error, StorageUnavailableError) else type(error).__name__
            log.error("the audit event %s of tenant %s was not stored: %s", event, tenant, reason)
