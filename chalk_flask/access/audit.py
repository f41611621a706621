"""What changed something is noted in its tenant, for good: tokens, clients, issuers, imports, logins, the gradebook.

An entry says when, what and to which ids, never a secret, a name, an address of e-mail or what a record holds.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from backends import KEY, Backend, Compare, Query, Record, StorageError, Transaction
from chalk_flask.access.records import instant
from chalk_flask.access.tenants import CONTROL, tenant_of

__all__ = ["COLLECTION", "EVENTS", "Audit", "Fact", "home_of", "note_in", "written"]

log = logging.getLogger(__name__)

COLLECTION = "audit"
EVENTS = frozenset(
    {
        *("token.created", "token.revoked", "client.created", "client.rotated", "client.revoked"),
        *("issuer.added", "issuer.removed", "tenant.created", "tenant.changed", "tenant.deleted"),
        *("import.committed", "import.refused", "gradebook.put", "gradebook.deleted"),
        *("login.succeeded", "login.failed"),
    }
)
"""Everything that is noted."""

WAIT = 10.0
"""Seconds that an entry waits for another writer before it is given up."""

_PAGE = 500

Fact: TypeAlias = str | int | bool | Sequence[str] | None


class Audit:
    """The audit of a store: an append-only collection in each tenant. Safe for use by many threads at once."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = instant) -> None:
        self._store = store
        self._now = now

    def note(self, tenant: str, event: str, **facts: Fact) -> None:
        """Note that something was done to a tenant, after it was done.

        It is done whether or not this can be written: a failure is logged and not raised. Events of a tenant itself
        stand in CONTROL, where they outlive it.
        """
        try:
            home = CONTROL if event.startswith("tenant.") else home_of(self._store, tenant)
            with self._store.write(home, wait=WAIT) as transaction:
                note_in(transaction, tenant, event, self._now(), **facts)
        except StorageError as error:
            log.error("%s in tenant %s is missing in the audit: %s", event, tenant, type(error).__name__)

    def entries(self, tenant: str, since: str = "") -> Iterator[dict[str, Any]]:
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


def home_of(store: Backend, tenant: str) -> str:
    """Where what concerns a tenant is noted: there, or in CONTROL when it is no more. Raises StorageError."""
    with store.read(CONTROL) as control:
        return tenant if tenant_of(control, tenant) is not None else CONTROL


def note_in(transaction: Transaction, tenant: str, event: str, moment: datetime | None = None, **facts: Fact) -> None:
    """Note an event in the transaction that does it, so that both are stored or neither.

    Raises ValueError for an event that is not one of EVENTS.
    """
    if event not in EVENTS:
        raise ValueError(f"there is no event {event!r} in the audit; there are {', '.join(sorted(EVENTS))}")
    time = written(moment or instant())
    key = f"{time}-{secrets.token_hex(4)}"
    body = orjson.dumps({"time": time, "tenant": tenant, "event": event, **facts, "entry": key})
    transaction.put(COLLECTION, [Record(key, body, {"time": time, "event": event})])


def written(moment: datetime) -> str:
    """The moment in UTC with microseconds: texts that sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
