"""Collections of the service's store, and access to a store that may not exist yet."""

from __future__ import annotations

from typing import Protocol

from backends import COPY_MARKER, Backend, Closeable, Collection, Field, Snapshot, Transaction, open_store, store_exists
from chalk_flask.oneroster.schemas import FILES

__all__ = ["COLLECTIONS", "LazyStore", "RosterStore"]

COLLECTIONS: tuple[Collection, ...] = (
    *(resource_type.collection for resource_type in FILES.values()),
    # Timestamp of the last write transaction; the next one must be later.
    Collection("clock", bumps_revision=False),
    # Provenance: gradebook records that a grade tool wrote, which imports must not change.
    Collection("origins", (Field("collection"), Field("record", indexed=True)), bumps_revision=False),
    # Sequence number of the last change of each record, for the change feed.
    Collection("sequence", (Field("number", "number", indexed=True), Field("collection")), bumps_revision=False),
    # Import runs, by id.
    Collection("imports", (Field("started", indexed=True), Field("state"), Field("package")), bumps_revision=False),
    # Webhook subscriptions by id, their events and their deliveries by number.
    Collection("webhooks", bumps_revision=False),
    Collection("outbox", bumps_revision=False),
    Collection(
        "deliveries",
        (
            Field("webhook", indexed=True),
            Field("queue", indexed=True, low_cardinality=True),
            Field("due", "number"),
            Field("event", indexed=True),
            Field("time", indexed=True),
            Field("state"),
        ),
        bumps_revision=False,
    ),
    # The following collections are in the control tenant. Marker of an unfinished copy into this store:
    COPY_MARKER,
    # API tokens, by their SHA-256.
    Collection("tokens", (Field("id", indexed=True), Field("tenant", indexed=True)), bumps_revision=False),
    # Tenants by name, OAuth clients and trusted issuers by id.
    Collection("tenants", bumps_revision=False),
    Collection("clients", (Field("tenant", indexed=True),), bumps_revision=False),
    Collection("issuers", (Field("tenant", indexed=True), Field("issuer", indexed=True)), bumps_revision=False),
    # Audit events by time, in their tenant or in the control tenant.
    Collection("audit", (Field("time", indexed=True), Field("event")), bumps_revision=False),
)
"""All collections, for `backends.open_store`."""


class RosterStore(Protocol):
    """Store from which rosters are read and to which they are written: a `Backend` or a `LazyStore`."""

    def read(self, tenant: str) -> Snapshot:
        """Return a snapshot of a tenant."""
        ...

    def write(self, tenant: str) -> Transaction:
        """Return a write transaction of a tenant."""
        ...


class LazyStore(Closeable):
    """Context manager for a store that the first write creates. Before that, reads find an empty store.

    The first read of an existing store and the first write raise the errors of `open_store`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._empty = open_store("memory:", COLLECTIONS)
        self._store: Backend | None = None

    def read(self, tenant: str) -> Snapshot:
        if self._store is None and store_exists(self._url):
            self._store = open_store(self._url, COLLECTIONS)
        return (self._store or self._empty).read(tenant)

    def write(self, tenant: str) -> Transaction:
        if self._store is None:
            self._store = open_store(self._url, COLLECTIONS)
        return self._store.write(tenant)

    def close(self) -> None:
        self._empty.close()
        if self._store is not None:
            self._store.close()
