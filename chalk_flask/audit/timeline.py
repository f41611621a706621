"""Timeline of a store: audit events and entries of the access log, merged."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backends import CONTROL, Backend
from chalk_flask.audit.access_log import read_entries
from chalk_flask.audit.events import read_events

__all__ = ["read_timeline"]


def read_timeline(
    store: Backend | None, access_log: Path, tenants: Iterable[str], since: str = "", tenant: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the audit events of these tenants and of CONTROL and the access log's entries, oldest first.

    Every entry has the members `time`, `tenant` and `event`; the event of an access log entry is `read`.

    `access_log` is the folder of the access log. `since` is the earliest time, as `times.format_precise_timestamp`
    returns it. `tenant` restricts the output to one tenant. Without a store there is only the access log. Memory use is
    constant. Raises StorageError and OSError.
    """
    sources = [read_entries(access_log, since)]
    if store is not None:
        sources += [read_events(store, name, since) for name in sorted({CONTROL, *tenants})]
    filtered = [_select_tenant(entries, tenant) for entries in sources]
    return heapq.merge(*filtered, key=lambda entry: str(entry["time"]))


def _select_tenant(entries: Iterator[dict[str, Any]], tenant: str | None) -> Iterator[dict[str, Any]]:
    # The entry that counts dropped lines has no tenant. It concerns every tenant.
    return (entry for entry in entries if tenant is None or entry.get("tenant", tenant) == tenant)
