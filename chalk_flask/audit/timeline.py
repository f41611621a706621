"""What was changed and what was read, as one account in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends import Backend
from chalk_flask.audit.access_log import read_entries
from chalk_flask.audit.log import AuditLog
from chalk_flask.tenants.store import CONTROL, TenantStore

__all__ = ["timeline"]


def timeline(
    store: Backend | None, reads: Path, since: str = "", tenant: str | None = None
) -> Iterator[dict[str, Any]]:
    """Every entry since a moment (as `audit.written` gives it), of a tenant or of all, the oldest first.

    Each has `time`, `tenant` and `event`; the event of a read is `read`. Little of it is held at a time. Raises
    StorageError and OSError.
    """
    accounts = [_of(read_entries(reads, since), tenant)]
    if store is not None:
        audit = AuditLog(store)
        names = (
            {CONTROL, tenant} if tenant is not None else {CONTROL, *(each.name for each in TenantStore(store).list())}
        )
        accounts += [_of(audit.events(name, since), tenant) for name in sorted(names)]
    return heapq.merge(*accounts, key=lambda entry: str(entry["time"]))


def _of(entries: Iterator[dict[str, Any]], tenant: str | None) -> Iterator[dict[str, Any]]:
    # What is said of no tenant (lines that were dropped) is said to everybody.
    return (each for each in entries if tenant is None or each.get("tenant", tenant) == tenant)
