"""Storage in this process's memory: `memory:`. Every opening is a new, empty store; nothing outlives the process.

It evaluates the query tree as plainly as Python allows, so it is what every other backend is compared with.
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
from backends.memory.evaluator import EMPTY_STATE, State, Table, has_match, join_bodies, matching_keys, select
from backends.query import MATCH_ALL, Query, Where

__all__ = ["EMPTY_STATE", "MemoryBackend", "State", "Table", "TableSnapshot", "TableTransaction"]
"""All but the first are for backends that keep a tenant in memory and only write it elsewhere (docs/how-to/write-a-backend.md)."""

Commit: TypeAlias = Callable[[State, set[str]], None]
Item = TypeVar("Item")


class MemoryBackend(Backend):
    """The oracle: everything in dictionaries, writers one after the other."""

    durable = False
    shared = False

    def __init__(self, collections: Iterable[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {c.name: c for c in collections}
        self._states: dict[str, State] = {}
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """A new, empty store. Raises InvalidStorageURLError unless the URL is `memory:`."""
        _check_url(url)
        return cls(collections)

    @classmethod
    def exists(cls, url: str) -> bool:
        """Never: there is nothing to find before `open`. Raises InvalidStorageURLError unless the URL is `memory:`."""
        _check_url(url)
        return False

    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        """A reference to the tenant's tables; they are never changed once committed."""
        self._check_open()
        return TableSnapshot(self.collections, self._states.get(tenant, EMPTY_STATE))

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Start to write, alone in the store. Raises StorageBusyError after `wait` seconds."""
        self._check_open()
        if not self._writing.acquire(timeout=max(wait, 0)):
            raise StorageBusyError(f"another writer held the store for more than {wait:g} seconds; try again")

        def commit(state: State, _touched: set[str]) -> None:
            self._states[tenant] = state

        return TableTransaction(self.collections, self._states.get(tenant, EMPTY_STATE), commit, self._writing.release)

    def tenants(self) -> list[str]:
        """Everybody who ever committed something."""
        self._check_open()
        return sorted(self._states)

    def version(self, tenant: str) -> object:
        """The number of the tenant's last commit."""
        self._check_open()
        return self._states.get(tenant, EMPTY_STATE).serial

    def check(self) -> list[str]:
        """Nothing can be wrong with dictionaries."""
        self._check_open()
        return []

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._states.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")


class TableSnapshot(Snapshot):
    """A moment of one tenant, held as tables in memory."""

    def __init__(self, collections: Mapping[str, Collection], state: State) -> None:
        self._collections = collections
        self._now: State | None = state

    @property
    def revision(self) -> int:
        """The revision of the moment."""
        return self._state().revision

    def find(self, query: Query) -> Page:
        """The page, found now; its chunks are joined while they are iterated."""
        validate(query, self._collections)
        total, records = select(self._state(), query)
        return Page(self._while_open(join_bodies(records)), total)

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record matches, after testing records up to the first match only."""
        validate_where(where, get_collection(collection, self._collections), self._collections)
        return has_match(self._state(), collection, where)

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those keys that exist."""
        get_collection(collection, self._collections)
        records = self._state().table(collection).records
        return {key: records[key].body for key in keys if key in records}

    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """The matching keys, found now, so that a transaction may write while it walks through them."""
        validate_where(where, get_collection(collection, self._collections), self._collections)
        return self._while_open(matching_keys(self._state(), collection, where))

    def scan(self, collection: str) -> Iterator[Record]:
        """The records as they are now, in key order."""
        owner = get_collection(collection, self._collections)
        table = self._state().table(collection)
        kept = [table.records[key] for key in table.sorted_keys()]
        return self._while_open(normalize(record, owner) for record in kept)

    def close(self) -> None:
        """Let go of the tables."""
        self._now = None

    def _state(self) -> State:
        if self._now is None:
            raise StorageUnavailableError("the snapshot is closed: read again to see the store")
        return self._now

    def _while_open(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self._state()
            yield item


class TableTransaction(TableSnapshot, Transaction):
    """Copies each table at its first write; hands the whole to `commit` at the end, with the names it touched."""

    def __init__(
        self, collections: Mapping[str, Collection], state: State, commit: Commit, release: Callable[[], None]
    ) -> None:
        super().__init__(collections, state)
        self._commit = commit
        self._release: Callable[[], None] | None = release
        self._touched: set[str] = set()

    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store copies of the records. Raises InvalidQueryError for a record that does not fit the collection."""
        owner = get_collection(collection, self._collections)
        self._state()
        for record in records:
            check_record(record, owner)
            self._own(collection).put(record)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Remove the records with these keys."""
        get_collection(collection, self._collections)
        for key in keys:
            if key in self._state().table(collection).records:
                self._own(collection).remove(key)

    def close(self) -> None:
        """Undo whatever was not committed and let the next writer in."""
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._touched:
                self._commit(self._committed(), self._touched)
        finally:
            self.close()

    def _own(self, collection: str) -> Table:
        """The table to change: a copy from its first write on."""
        state = self._state()
        if collection not in self._touched:
            self._touched.add(collection)
            tables = {**state.tables, collection: state.table(collection).copy()}
            self._now = State(tables, state.revision, state.serial)
        return self._state().tables[collection]

    def _committed(self) -> State:
        state = self._state()
        moment = time.time_ns() // 1000
        served = any(self._collections[name].bumps_revision for name in self._touched)
        revision = max(state.revision + 1, moment) if served else state.revision
        return State(state.tables, revision, max(state.serial + 1, moment))


def _check_url(url: str) -> None:
    if url.lower() != "memory:":
        raise InvalidStorageURLError(f"{url!r}: nothing follows the colon of memory:, as it has no place to name")
