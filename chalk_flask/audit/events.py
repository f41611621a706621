"""Audit events: changes of credentials, administrators, tenants, webhooks, sources, backups, imports and the
gradebook.

They are kept as long as their tenant.

An event contains the time, the name of the change and the ids of the changed objects. It never contains a secret,
a name, an e-mail address or the content of a record. `docs/reference/audit.md` lists the events and their members.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from backends import KEY, And, Backend, Compare, OrderBy, Query, Record, Transaction
from chalk_flask.audit.actor import current_actor
from chalk_flask.times import format_precise_timestamp, utc_now

__all__ = ["COLLECTION", "EVENTS", "AuditValue", "delete_events", "read_events", "read_latest_events", "record_event"]

COLLECTION = "audit"
EVENTS = frozenset(
    {
        *("token.created", "token.rotated", "token.revoked", "client.created", "client.rotated", "client.revoked"),
        *("issuer.added", "issuer.removed", "tenant.created", "tenant.changed", "tenant.deleted"),
        *("import.committed", "import.held", "import.approved", "import.discarded"),
        *("job.queued", "job.finished", "job.failed", "job.canceled"),
        *("gradebook.put", "gradebook.deleted", "demographics.viewed"),
        *("login.succeeded", "login.failed"),
        *("administrator.created", "administrator.changed", "administrator.deleted"),
        *("session.started", "session.ended", "sign_in.failed", "store.checked"),
        *("webhook.created", "webhook.paused", "webhook.resumed", "webhook.rotated", "webhook.deleted"),
        *("backup.created", "backup.restored", "source.added", "source.changed", "source.removed"),
        *("webhook.tested", "webhook.replayed", "webhook.disabled", "secrets.rotated"),
    }
)
"""Names of all events."""

AuditValue: TypeAlias = str | int | bool | Sequence[str] | None

_PAGE_SIZE = 500


def record_event(
    transaction: Transaction, tenant: str, event: str, time: datetime | None = None, **members: AuditValue
) -> None:
    """Store an event of a tenant in the transaction that causes it, so that both are committed or neither.

    `time` defaults to the current time, `by` to the administrator whose request causes the event. Raises ValueError for
    an event that is not in EVENTS.
    """
    if event not in EVENTS:
        raise ValueError(f"unknown audit event {event!r}; the events are {', '.join(sorted(EVENTS))}")
    timestamp = format_precise_timestamp(time or utc_now())
    actor = current_actor()
    if actor is not None and members.get("by") is None and "administrator" not in members:
        members["by"] = actor
    key = f"{timestamp}-{secrets.token_hex(4)}"
    body = orjson.dumps({"time": timestamp, "tenant": tenant, "event": event, **members, "entry": key})
    transaction.put(COLLECTION, [Record(key, body, {"time": timestamp, "event": event})])


def delete_events(control: Transaction, tenant: str) -> None:
    """Delete the events of a tenant from CONTROL, except `tenant.*`, which outlive it."""
    bodies = control.get_each(COLLECTION, list(control.keys(COLLECTION)))
    control.delete(COLLECTION, [key for key, body in bodies if _belongs_to(orjson.loads(body), tenant)])


def _belongs_to(event: Mapping[str, Any], tenant: str) -> bool:
    return event["tenant"] == tenant and not event["event"].startswith("tenant.")


def read_events(store: Backend, tenant: str, since: str = "") -> Iterator[dict[str, Any]]:
    """Yield the events that are stored in a tenant or in CONTROL, oldest first. Raises StorageError.

    `since` is the earliest time, as `times.format_precise_timestamp` returns it. Every page is read from a new
    snapshot, so that a slow caller keeps no snapshot open.
    """
    last = since
    while True:
        with store.read(tenant) as snapshot:
            page = snapshot.find(Query(COLLECTION, Compare(KEY, ">", last), limit=_PAGE_SIZE, max_total=0)).body()
        events = orjson.loads(b"[%s]" % page)
        if not events:
            return
        for event in events:
            last = event.pop("entry")
            yield event


def read_latest_events(
    store: Backend, tenant: str, since: str = "", until: str = "", event: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the events that are stored in a tenant or in CONTROL, newest first. Raises StorageError.

    `since` is the earliest time and `until` the first time after the events, both as `format_precise_timestamp` returns
    them; "" is no limit. `event` selects the events of one name. Every page is read from a new snapshot.
    """
    last = until
    while True:
        limits = [Compare(KEY, ">=", since)] if since else []
        limits += [Compare(KEY, "<", last)] if last else []
        limits += [Compare("event", "=", event)] if event else []
        query = Query(COLLECTION, And(tuple(limits)), (OrderBy(KEY, descending=True),), limit=_PAGE_SIZE, max_total=0)
        with store.read(tenant) as snapshot:
            page = snapshot.find(query).body()
        events = orjson.loads(b"[%s]" % page)
        if not events:
            return
        for each in events:
            last = each.pop("entry")
            yield each
