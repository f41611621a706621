"""Collections of the service's store, access to a store that may not exist yet, and checks of stored objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson

from backends import (
    COPY_MARKER,
    MATCH_ALL,
    Backend,
    Closeable,
    Collection,
    DamagedStoreError,
    Field,
    Page,
    Query,
    Record,
    Snapshot,
    Transaction,
    Value,
    Where,
    open_store,
    store_exists,
)
from chalk_flask.oneroster.schemas import FILES

__all__ = ["COLLECTIONS", "LazyStore", "LockedStore", "RosterStore", "check_readable", "checked_members"]


def _members(**paths: str) -> Callable[[bytes], Mapping[str, Value]]:
    """Return the function `values_of` of a collection whose fields repeat members of the body.

    It takes the path of the member in the body by field. A missing member is a missing value.
    """

    def values_of(body: bytes) -> dict[str, Value]:
        data = _object(body)
        return {field: _member(data, path) for field, path in paths.items()}

    return values_of


def _delivery_values(body: bytes) -> dict[str, Value]:
    data = _object(body)
    names = {"webhook": "webhook", "event": "event_id", "time": "created", "state": "state", "due": "due"}
    values: dict[str, Value] = {field: _member(data, name) for field, name in names.items()}
    return values | {"queue": None if values["due"] is None else values["webhook"]}


def _import_values(body: bytes) -> dict[str, Value]:
    data = _object(body)
    values = {"started": _member(data, "started"), "state": _member(data, "state")}
    return values | {"package": _member(data, "report.sha256") or ""}


def _object(body: bytes) -> dict[str, Any]:
    data = orjson.loads(body)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data


def _member(data: Any, path: str) -> Value:
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, (str, int, float)) else None


COLLECTIONS: tuple[Collection, ...] = (
    *(resource_type.collection for resource_type in FILES.values()),
    # Timestamp of the last write transaction; the next one must be later.
    Collection("clock", bumps_revision=False),
    # Provenance: gradebook records that a grade tool wrote, which imports must not change.
    Collection(
        "origins",
        (Field("collection"), Field("record", indexed=True)),
        bumps_revision=False,
        values_of=_members(collection="collection", record="record"),
    ),
    # Sequence number of the last change of each record, for the change feed.
    Collection(
        "sequence",
        (Field("number", "number", indexed=True), Field("collection")),
        bumps_revision=False,
        values_of=_members(number="sequence", collection="collection"),
    ),
    # Change history: blocks of former states of records, by their last sequence number.
    Collection("history", bumps_revision=False),
    # Import runs, by id.
    Collection(
        "imports",
        (Field("started", indexed=True), Field("state"), Field("package")),
        bumps_revision=False,
        values_of=_import_values,
    ),
    # Jobs of the console, by id.
    Collection(
        "jobs",
        (Field("created", indexed=True), Field("state", indexed=True)),
        bumps_revision=False,
        values_of=_members(created="created", state="state"),
        # A job without a result needs files that are not copied.
        is_record_copied=lambda record: record.values["state"] not in ("queued", "running"),
    ),
    # Webhook subscriptions by id, their events and their deliveries by number.
    Collection("webhooks", bumps_revision=False),
    Collection("outbox", bumps_revision=False),
    Collection(
        "deliveries",
        (
            Field("webhook"),
            Field("queue", indexed=True, low_cardinality=True),
            Field("due", "number"),
            Field("event", indexed=True),
            Field("time", indexed=True),
            Field("state"),
        ),
        bumps_revision=False,
        combined_indexes=(("webhook", "state"),),
        values_of=_delivery_values,
    ),
    # Notices about imports that wait to be sent by mail, by key. They belong to one service, so a copy has none.
    Collection("notices", bumps_revision=False, is_copied=False),
    # Sources: upstream providers by name, with the results of their syncs.
    Collection("sources", bumps_revision=False),
    # The following collections are in the control tenant. Marker of an unfinished copy into this store:
    COPY_MARKER,
    # API tokens, by their SHA-256.
    Collection(
        "tokens",
        (Field("id", indexed=True), Field("tenant", indexed=True)),
        bumps_revision=False,
        values_of=_members(id="id", tenant="tenant"),
    ),
    # Tenants by name, and marks of unfinished deletions of tenants by name. OAuth clients and trusted issuers by id.
    Collection("tenants", bumps_revision=False),
    Collection("deletions", bumps_revision=False),
    Collection("clients", (Field("tenant", indexed=True),), bumps_revision=False, values_of=_members(tenant="tenant")),
    Collection(
        "issuers",
        (Field("tenant", indexed=True), Field("issuer", indexed=True)),
        bumps_revision=False,
        values_of=_members(tenant="tenant", issuer="iss"),
    ),
    # Administrators by id, their sessions by the SHA-256 of the session id, and the link for the first administrator.
    # Sessions and the link belong to one service, so a copy has none.
    Collection(
        "administrators",
        (Field("name", indexed=True), Field("tenant", indexed=True)),
        bumps_revision=False,
        values_of=_members(name="name", tenant="tenant"),
    ),
    Collection(
        "sessions",
        (Field("administrator", indexed=True), Field("tenant", indexed=True), Field("expires", indexed=True)),
        bumps_revision=False,
        values_of=_members(administrator="administrator", tenant="tenant", expires="expires"),
        is_copied=False,
    ),
    Collection("setup_link", bumps_revision=False, is_copied=False),
    # Forms of the console that were submitted, by submission id.
    Collection("submissions", bumps_revision=False, is_copied=False),
    # Audit events by time, in their tenant or in the control tenant.
    Collection(
        "audit",
        (Field("time", indexed=True), Field("event", indexed=True, low_cardinality=True)),
        bumps_revision=False,
        values_of=_members(time="time", event="event"),
    ),
)
"""All collections, for `backends.open_store`."""


class RosterStore(Protocol):
    """Store from which rosters are read and to which they are written: a `Backend` or one of the stores below."""

    def read(self, tenant: str) -> Snapshot:
        """Return a snapshot of a tenant."""
        ...

    def write(self, tenant: str) -> Transaction:
        """Return a write transaction of a tenant."""
        ...

    def tenants(self) -> list[str]:
        """Return the names of all tenants."""
        ...


@contextmanager
def checked_members(kind: str) -> Iterator[None]:
    """Context in which a missing or invalid member of a stored object is a DamagedStoreError that names its kind."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # The message of the error may quote a name.
        raise DamagedStoreError(
            f"a stored {kind} has a missing or invalid member ({type(error).__name__}): restore a backup"
        ) from None


def check_readable(store: Backend) -> None:
    """Read from every collection of every tenant. Raises StorageError if that fails.

    A backend may open a store without reading it.
    """
    for tenant in store.tenants():
        with store.read(tenant) as snapshot:
            for name in store.collections:
                snapshot.exists(name)


class LazyStore(Closeable):
    """Context manager for a store that the first write creates. Before that, reads find an empty store.

    The first read of an existing store and the first write raise the errors of `open_store`. `on_open` is called with
    the store before it is used.
    """

    def __init__(self, url: str, on_open: Callable[[Backend], object] | None = None) -> None:
        self._url, self._on_open = url, on_open
        self._empty = open_store("memory:", COLLECTIONS)
        self._store: Backend | None = None

    def read(self, tenant: str) -> Snapshot:
        return self._existing_or_empty().read(tenant)

    def write(self, tenant: str) -> Transaction:
        if self._store is None:
            self._store = self._open()
        return self._store.write(tenant)

    def tenants(self) -> list[str]:
        return self._existing_or_empty().tenants()

    def close(self) -> None:
        self._empty.close()
        if self._store is not None:
            self._store.close()

    def _existing_or_empty(self) -> Backend:
        if self._store is None and store_exists(self._url):
            self._store = self._open()
        return self._store or self._empty

    def _open(self) -> Backend:
        store = open_store(self._url, COLLECTIONS)
        try:
            if self._on_open is not None:
                self._on_open(store)
        except BaseException:
            store.close()
            raise
        return store


class LockedStore(Closeable):
    """Context manager for a store whose write lock is held from the beginning to the first write of one tenant.

    Reads of the tenant before that are in the same transaction. `close` releases the lock if there was no write.
    """

    def __init__(self, store: RosterStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._transaction: Transaction | None = store.write(tenant)

    def read(self, tenant: str) -> Snapshot:
        """Return a snapshot. Closing it keeps the transaction."""
        if tenant == self._tenant and self._transaction is not None:
            return _TransactionView(self._transaction)
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        """Return the open transaction of the tenant at the first call, and a new one later."""
        if tenant == self._tenant and self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            return transaction
        return self._store.write(tenant)

    def tenants(self) -> list[str]:
        """Return the names of all tenants."""
        return self._store.tenants()

    def close(self) -> None:
        if self._transaction is not None:
            self._transaction.close()


class _TransactionView(Snapshot):
    """Snapshot that reads from a transaction, and leaves it open when it is closed."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @property
    def revision(self) -> int:
        return self._transaction.revision

    def find(self, query: Query) -> Page:
        return self._transaction.find(query)

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        return self._transaction.exists(collection, where)

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        return self._transaction.get_many(collection, keys)

    def get_each(self, collection: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        return self._transaction.get_each(collection, keys)

    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        return self._transaction.keys(collection, where)

    def scan(self, collection: str) -> Iterator[Record]:
        return self._transaction.scan(collection)

    def close(self) -> None:
        """Do nothing: the owner of the transaction ends it."""
