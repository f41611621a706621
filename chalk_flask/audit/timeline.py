"""Timeline of a store: audit events and entries of the access log, merged."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from backends import CONTROL, Backend
from chalk_flask.audit.access_log import read_entries
from chalk_flask.audit.events import read_events
from chalk_flask.audit.latest import READ

__all__ = ["read_timeline"]


def read_timeline(
    store: Backend | None,
    access_log: Path,
    tenants: Iterable[str],
    since: str = "",
    tenant: str | None = None,
    *,
    until: str = "",
    event: str = "",
) -> Iterator[dict[str, Any]]:
    """Yield the audit events of these tenants and of CONTROL and the access log's entries, oldest first.

    Every entry has the members `time`, `tenant` and `event`; the event of an access log entry is `read`.

    `access_log` is the folder of the access log. `since` is the earliest time and `until` the first time after the
    entries, as `times.format_precise_timestamp` returns them. `tenant` and `event` restrict the output to one tenant or
    event. Without a store there is only the access log. Memory use is constant. Raises StorageError and OSError.
    """
    sources = [read_entries(access_log, since)] if event in ("", READ) else []
    if store is not None and event != READ:
        sources += [read_events(store, name, since) for name in sorted({CONTROL, *tenants})]
    filtered = [_select(entries, tenant, event) for entries in sources]
    merged = heapq.merge(*filtered, key=lambda entry: str(entry["time"]))
    return takewhile(lambda entry: not until or str(entry["time"]) < until, merged)


def _select(entries: Iterator[dict[str, Any]], tenant: str | None, event: str) -> Iterator[dict[str, Any]]:
    for entry in entries:
        # The entry that counts dropped lines has no tenant and no event. It concerns every tenant.
        if (tenant is None or entry.get("tenant", tenant) == tenant) and (not event or entry.get("event") == event):
            yield entry
