"""Event about an overdue import: the last one of a tenant is older than the setting `overdue_hours`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import orjson

from backends import CONTROL, Backend, Record, Snapshot
from chalk_flask.notices import wanted_events
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.event import IMPORT_OVERDUE
from chalk_flask.outbox.import_events import subscribers_of
from chalk_flask.roster.import_events import enqueue_event
from chalk_flask.roster.imports.history import ImportRun, find_last_current_run
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import parse_timestamp

__all__ = ["enqueue_overdue"]

_REPORTED_KEY: Final = ":overdue"
"""Key in BODIES of the record with the last import after which the event was queued."""


def enqueue_overdue(store: Backend, max_hours: int, now: datetime) -> None:
    """Queue the event of each tenant whose last import is older than `max_hours`, once until the next import.

    An import that found nothing to change counts. A tenant without any import is not overdue. Raises StorageError.
    """
    for tenant in TenantStore(store).list():
        with store.read(CONTROL) as control:
            wanted = wanted_events(control, tenant.name)
        with store.read(tenant.name) as snapshot:
            if _overdue_run(wanted, snapshot, max_hours, now) is None:
                continue
        with store.write(tenant.name) as transaction:
            run = _overdue_run(wanted, transaction, max_hours, now)
            if run is not None:
                transaction.put(BODIES, [Record(_REPORTED_KEY, orjson.dumps({"run": run.id}))])
                details = {"state": "overdue", "last": run.last_used, "hours": max_hours}
                enqueue_event(wanted, transaction, tenant.name, IMPORT_OVERDUE, run.id, details, {})


def _overdue_run(wanted: Collection[str], snapshot: Snapshot, max_hours: int, now: datetime) -> ImportRun | None:
    """Return the last import of a tenant if it is overdue, the event has a recipient, and was not queued yet."""
    has_recipient = IMPORT_OVERDUE in wanted or subscribers_of(snapshot, IMPORT_OVERDUE)
    run = find_last_current_run(snapshot) if has_recipient else None
    last_used = parse_timestamp(run.last_used) if run else None
    if run is None or last_used is None or now - last_used < timedelta(hours=max_hours):
        return None
    reported = snapshot.get_many(BODIES, [_REPORTED_KEY]).get(_REPORTED_KEY)
    return None if reported and orjson.loads(reported)["run"] == run.id else run
