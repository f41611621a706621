"""Storage in the memory of the process: `memory:`. Each `open` creates a new, empty store.

The evaluation of queries is as simple as possible, because the conformance suite compares other backends with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from backends.base import (
    Backend,
    Collection,
    InvalidStorageURLError,
    Page,
    Record,
    Snapshot,
    StorageBusyError,
    StorageUnavailableError,
    Transaction,
    check_record,
    get_collection,
    normalize,
    validate,
    validate_where,
)
from backends.deadline import QueryDeadline
from backends.memory.evaluator import NO_TABLES, Table, TenantTables, evaluate, has_match, join_bodies, matching_keys
from backends.query import MATCH_ALL, Query, Where

__all__ = ["MemoryBackend", "TableSnapshot", "TableTransaction"]
"""The last two names are for backends that load a tenant into memory (the backend guide)."""

Commit: TypeAlias = Callable[[TenantTables, set[str]], None]
"""Callback that stores a new state; the set contains the names of the collections that were written to."""

_Item = TypeVar("_Item")


class MemoryBackend(Backend):
    """Backend that stores records in dictionaries."""

    durable = False
    shared = False

    def __init__(self, collections: Iterable[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {c.name: c for c in collections}
        self._states: dict[str, TenantTables] = {}
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Return a new, empty store. Raises InvalidStorageURLError unless the URL is `memory:`."""
        _check_url(url)
        return cls(collections)

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return False. Raises InvalidStorageURLError unless the URL is `memory:`."""
        _check_url(url)
        return False

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        """Return a snapshot that refers to the tenant's tables. Committed tables never change."""
        self._check_open()
        return TableSnapshot(self.collections, self._states.get(tenant, NO_TABLES), query_seconds)

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the write lock of the store. Raises StorageBusyError after `wait` seconds."""
        self._check_open()
        if not self._writing.acquire(timeout=max(wait, 0)):
            raise StorageBusyError(f"another writer locked the store for more than {wait:g} seconds: try again")

        def commit(state: TenantTables, _written: set[str]) -> None:
            self._states[tenant] = state

        return TableTransaction(self.collections, self._states.get(tenant, NO_TABLES), commit, self._writing.release)

    def tenants(self) -> list[str]:
        """Return the names of all tenants that were ever written to."""
        self._check_open()
        return sorted(self._states)

    def version(self, tenant: str) -> object:
        """Return the serial number of the tenant's last commit."""
        self._check_open()
        return self._states.get(tenant, NO_TABLES).serial

    def check(self) -> list[str]:
        """Return an empty list: dictionaries cannot be damaged."""
        self._check_open()
        return []

    def close(self) -> None:
        """Delete all records."""
        self._closed = True
        self._states.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")


class TableSnapshot(Snapshot):
    """Snapshot of tables in memory. Each step is limited to `query_seconds`; None means no limit."""

    def __init__(
        self, collections: Mapping[str, Collection], state: TenantTables, query_seconds: float | None = None
    ) -> None:
        self._collections = collections
        self._loaded_state: TenantTables | None = state
        self._deadline = QueryDeadline(query_seconds)

    @property
    def revision(self) -> int:
        """Revision of the tenant."""
        return self._state().revision

    def find(self, query: Query) -> Page:
        """Return the page. Records are selected now; the chunks are joined during iteration."""
        validate(query, self._collections)
        self._deadline.start_step()
        total, records = evaluate(self._state(), query, self._deadline)
        return Page(self._while_open(join_bodies(records)), total)

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record matches, after testing records up to the first match only."""
        validate_where(where, get_collection(collection, self._collections), self._collections)
        self._deadline.start_step()
        return has_match(self._state(), collection, where, self._deadline)

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of the existing records among `keys`, by key."""
        get_collection(collection, self._collections)
        records = self._state().table(collection).records
        return {key: records[key].body for key in keys if key in records}

    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """Yield the matching keys, which are selected now. A transaction may write during the iteration."""
        validate_where(where, get_collection(collection, self._collections), self._collections)
        self._deadline.start_step()
        return self._while_open(matching_keys(self._state(), collection, where, self._deadline))

    def scan(self, collection: str) -> Iterator[Record]:
        """Yield the present records in key order."""
        owner = get_collection(collection, self._collections)
        table = self._state().table(collection)
        records = [table.records[key] for key in table.sorted_keys()]
        return self._while_open(normalize(record, owner) for record in records)

    def close(self) -> None:
        """Release the tables."""
        self._loaded_state = None

    def _state(self) -> TenantTables:
        if self._loaded_state is None:
            raise StorageUnavailableError("the snapshot is closed: read again to see the store")
        return self._loaded_state

    def _while_open(self, items: Iterable[_Item]) -> Iterator[_Item]:
        for item in items:
            self._state()
            yield item


class TableTransaction(TableSnapshot, Transaction):
    """Transaction on tables in memory.

    It copies a table before the first write to it. At the end it calls `commit` with the new state and the names of
    the written collections, then `release`.
    """

    def __init__(
        self, collections: Mapping[str, Collection], state: TenantTables, commit: Commit, release: Callable[[], None]
    ) -> None:
        super().__init__(collections, state)
        self._commit = commit
        self._release: Callable[[], None] | None = release
        self._written: set[str] = set()

    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store copies of the records. Raises InvalidQueryError for a record that the collection cannot store."""
        owner = get_collection(collection, self._collections)
        self._state()
        for record in records:
            check_record(record, owner)
            self._writable_table(collection).put(record)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Delete the records with these keys."""
        get_collection(collection, self._collections)
        for key in keys:
            if key in self._state().table(collection).records:
                self._writable_table(collection).remove(key)

    def close(self) -> None:
        """Discard uncommitted changes and release the write lock."""
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._written:
                self._commit(self._new_state(), self._written)
        finally:
            self.close()

    def _writable_table(self, collection: str) -> Table:
        """Return the transaction's copy of a table, created by the first call."""
        state = self._state()
        if collection not in self._written:
            self._written.add(collection)
            tables = {**state.tables, collection: state.table(collection).copy()}
            self._loaded_state = TenantTables(tables, state.revision, state.serial)
        return self._state().tables[collection]

    def _new_state(self) -> TenantTables:
        state = self._state()
        now = time.time_ns() // 1000
        bumps_revision = any(self._collections[name].bumps_revision for name in self._written)
        revision = max(state.revision + 1, now) if bumps_revision else state.revision
        return TenantTables(state.tables, revision, max(state.serial + 1, now))


def _check_url(url: str) -> None:
    if url.lower() != "memory:":
        raise InvalidStorageURLError(f"{url!r} is invalid: nothing follows the colon of `memory:`")
