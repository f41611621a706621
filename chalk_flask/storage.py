"""What a store of the service keeps: the roster, and what is needed beside it."""

from __future__ import annotations

from typing import Protocol

from backends import COPY_MARKER, Backend, Closeable, Collection, Field, Snapshot, Transaction, open_store, store_exists
from chalk_flask.oneroster.schemas import FILES

__all__ = ["COLLECTIONS"]

COLLECTIONS: tuple[Collection, ...] = (
    *(resource.collection for resource in FILES.values()),
    # The stamp of the last write transaction, so that the next one is above it.
    Collection("clock", bumps_revision=False),
    # Which records of the gradebook a grade tool wrote, so that imports leave them alone.
    Collection("origins", (Field("collection"), Field("record", indexed=True)), bumps_revision=False),
    # The number of each record's last change, for those who follow.
    Collection("sequence", (Field("number", "number", indexed=True), Field("collection")), bumps_revision=False),
    # What imports did, by their ids, and those that are held.
    Collection("imports", (Field("started", indexed=True), Field("state"), Field("package")), bumps_revision=False),
    # Who is told of changes, what they are sent, and how far that has come; by id, by number, by number.
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
    # In the reserved tenant `_control`: that a copy of another store has begun to fill this one.
    COPY_MARKER,
    # Bearer tokens by their SHA-256, there as well.
    Collection("tokens", (Field("id", indexed=True), Field("tenant", indexed=True)), bumps_revision=False),
    # There as well: tenants by name, OAuth clients and trusted issuers by their ids.
    Collection("tenants", bumps_revision=False),
    Collection("clients", (Field("tenant", indexed=True),), bumps_revision=False),
    Collection("issuers", (Field("tenant", indexed=True), Field("issuer", indexed=True)), bumps_revision=False),
    # What changed something, in its tenant, by moment.
    Collection("audit", (Field("time", indexed=True), Field("event")), bumps_revision=False),
)
"""Every collection, to be given to `backends.open_store`."""


class RosterStore(Protocol):
    """Where rosters are read and written; any `Backend` will do."""

    def read(self, tenant: str) -> Snapshot:
        """A snapshot of the tenant's records."""
        ...

    def write(self, tenant: str) -> Transaction:
        """A transaction on them."""
        ...


class LazyStore(Closeable):
    """The store at a URL; as long as it does not exist, it reads as empty. A context manager.

    Whatever `open_store` raises comes with the first read of a store that exists, else with the first write.
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
