"""Storage contract: named collections of documents, per tenant, with snapshots and transactions.

A backend is independent of HTTP and OneRoster. It stores `Record`s (key, document bytes and comparison keys) and
evaluates `Query` trees. `backends.testing.BackendConformance` tests every promise of this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backends.batching import batched
from backends.errors import (
    BackupUnsupportedError,
    DamagedStoreError,
    InvalidQueryError,
    InvalidStorageURLError,
    NewerStoreError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from backends.query import MATCH_ALL, Query, Where
from backends.records import Collection, Field, Record, Value, normalize
from backends.validation import check_record, check_text, file_path, get_collection, validate, validate_where

__all__ = [
    "MAX_CHUNK_BYTES",
    "Backend",
    "Closeable",
    "Collection",
    "DamagedStoreError",
    "Field",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "Lease",
    "NewerStoreError",
    "Page",
    "Record",
    "SharedValues",
    "Snapshot",
    "StorageBusyError",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "Transaction",
    "Value",
    "check_record",
    "check_text",
    "file_path",
    "get_collection",
    "normalize",
    "validate",
    "validate_where",
]


MAX_CHUNK_BYTES = 2 << 20
"""Maximum size of a chunk with several documents."""

_GET_EACH_BATCH_SIZE = 8


@dataclass(slots=True)
class Page:
    """Result of a query.

    `total` is the number of matching records before paging, or `max_total` of the query if that is less. `chunks` are
    the documents of the page in order: joined by commas they form the content of a JSON array. Each chunk contains at
    least one document, so an empty page has no chunks. A chunk of several documents has at most MAX_CHUNK_BYTES, so
    that no page is in memory as a whole. Chunks are read from the snapshot during iteration. If the snapshot is closed,
    the iteration raises StorageUnavailableError. `has_escapes` is False if no document has a JSON escape but `\\/`.
    """

    chunks: Iterator[bytes]
    total: int
    has_escapes: bool = True

    def body(self) -> bytes:
        """Return all documents of the page, joined by commas."""
        return b",".join(self.chunks)


class Closeable(ABC):
    """Base of context managers that close themselves when their `with` block ends."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Snapshot(Closeable):
    """Read-only view of one tenant's records at one point in time.

    Later commits do not change it. A context manager. Several threads may use a snapshot one after the other.
    """

    @property
    @abstractmethod
    def revision(self) -> int:
        """Number that rises with every commit to a collection with `bumps_revision`; 0 before the first.

        A store that is deleted and created again does not reuse revisions, so caches and ETags can rely on it.
        """

    @abstractmethod
    def find(self, query: Query) -> Page:
        """Return the page that the query describes. Raises InvalidQueryError or QueryTimeoutError."""

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record of the collection matches. Raises InvalidQueryError or QueryTimeoutError."""
        return self.find(Query(collection, where, limit=0)).total > 0

    @abstractmethod
    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of the existing records among `keys`, by key."""

    def get_each(self, collection: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of each existing record among `keys`, in any order, without loading all of them."""
        for batch in batched(dict.fromkeys(keys), _GET_EACH_BATCH_SIZE):
            yield from self.get_many(collection, batch).items()

    def in_storage_order(self, collection: str) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of all records in the order in which the backend reads them fastest, or nothing.

        Only a backend that reads records faster in this order than by their keys overrides this. Raises StorageError.
        """
        return iter(())

    @abstractmethod
    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """Yield the keys of the matching records in key order, without loading all of them."""

    @abstractmethod
    def scan(self, collection: str) -> Iterator[Record]:
        """Yield all records in key order, without loading all of them.

        Values have the canonical form of `normalize`. Another store that puts these records yields equal records.
        """

    @abstractmethod
    def close(self) -> None:
        """End the snapshot. Unfinished pages raise StorageUnavailableError. A second call does nothing."""


class Transaction(Snapshot):
    """Snapshot that can write and sees its own writes.

    The end of the `with` block commits. An exception in the block, or `close`, rolls back everything.
    """

    committed: float | None = None
    """Time at which the commit became visible, in seconds since the epoch; None if the backend does not report it.

    The end of the `with` block may take longer than the commit.
    """

    @abstractmethod
    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records. Each one replaces the record with the same key. Raises InvalidQueryError."""

    @abstractmethod
    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Delete the records with these keys. Unknown keys are ignored."""


class SharedValues(ABC):
    """Transaction on short-lived values that processes share: ids that are used once, and entries such as counters.

    A scope is a namespace of ids or keys. Times are in epoch seconds, and `now` is the time of the caller. Two
    transactions that use the same id, or the same key of an entry, run one after the other. Not thread-safe. All
    methods raise StorageError.
    """

    @abstractmethod
    def get(self, scope: str, key: str) -> Any:
        """Return the value of a key, or None. It may have expired."""

    @abstractmethod
    def put(self, scope: str, key: str, value: Any, expires: float) -> None:
        """Store a value that JSON can represent. It may be deleted once it has expired."""

    @abstractmethod
    def delete(self, scope: str, key: str) -> None:
        """Delete the value of a key."""

    @abstractmethod
    def use(self, scope: str, used_id: bytes, expires: float, now: float) -> bool:
        """Store an id until it expires. Return True if it is new, or has expired."""

    @abstractmethod
    def count_used(self, scope: str) -> int:
        """Return the number of ids in a scope, including expired ones that were not deleted yet."""

    @abstractmethod
    def delete_expired_ids(self, scope: str, now: float) -> None:
        """Delete the ids of a scope that have expired."""

    @abstractmethod
    def delete_earliest_ids(self, scope: str) -> float:
        """Delete the ids of a scope that expire first, and return the time at which they would have expired.

        The scope has at least one id.
        """


class Lease(ABC):
    """Right to do a background task, which one process of a store has at a time. Only `is_held` is thread-safe."""

    @property
    @abstractmethod
    def is_held(self) -> bool:
        """True if this process has the lease. It may end at any time: check it before each step of the task."""

    @abstractmethod
    def has_holder(self) -> bool:
        """Return True if this process or another one has the lease, and False if the store cannot be reached."""

    @abstractmethod
    def try_acquire(self) -> bool:
        """Return True if this process has the lease or gets it now; never wait for another holder.

        Until `release`, the store renews the lease in the background. If the process dies, or cannot reach the store,
        another one can get it after some seconds. Raises StorageError.
        """

    @abstractmethod
    def release(self) -> None:
        """End the lease, so that another process can get it. A second call does nothing.

        If the store cannot be reached, the lease ends on its own after some seconds.
        """


class Backend(Closeable):
    """Open store. Thread-safe. Several processes may use one store at the same time if `shared` is True."""

    durable: bool = True
    """True if committed records survive the end of the process."""
    shared: bool = True
    """True if several processes may use the store at the same time."""
    has_immediate_reads: bool = False
    """True if snapshots and `version` do not wait within `immediate_reads`: they raise WaitRequired instead."""
    parallel: bool = False
    """True if processes that serve the store share its data, instead of each keeping a copy in memory."""

    version_lag_seconds: float = 0.0
    """Maximum time between a commit of another process and the change of `version`."""
    has_shared_values: bool = False
    """True if `share_values` stores values in the store, for processes on several machines."""

    has_leases: bool = False
    """True if `lease` elects one process among several machines."""

    store_id: str = ""
    """Random id that the store got when it was created; empty if the backend or the store has none."""
    schema_version: int = 0
    """Version of the form in which this program writes stores of the backend."""

    collections: Mapping[str, Collection]
    """Declared collections by name."""

    @classmethod
    @abstractmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the store at `url`; create the store, and add collections and fields, if they are missing.

        Raises InvalidStorageURLError or StorageUnavailableError.
        """

    @classmethod
    @abstractmethod
    def exists(cls, url: str) -> bool:
        """Return True if there is a store at `url`, without creating one. Raises InvalidStorageURLError.

        A damaged store exists: opening it raises DamagedStoreError.
        """

    @classmethod
    def repair(cls, url: str, collections: Iterable[Collection]) -> list[str]:
        """Rebuild what the bodies of the records determine, and return what was done, one sentence each.

        The bodies stay as they are. An intact store is not changed. Raises DamagedStoreError if the store cannot be
        repaired. This method rebuilds values; a backend that can lose other parts restores them first.
        """
        from backends.repair import rebuild_values

        with cls.open(url, collections) as store:
            return rebuild_values(store)

    @abstractmethod
    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        """Return a snapshot of the tenant's records. An unknown tenant has no records. Does not wait for writers.

        The snapshot contains every commit that ended before this call. With `at_least`, a value that `version`
        returned for any tenant, it may be older: it contains every commit that ended before that `version` call.
        A caller that just called `version` passes its result, so that the backend need not look for newer commits.
        A backend may ignore `at_least`.

        `query_seconds` limits the time of each step on the snapshot; None means no limit. A step is a call of `find`,
        `exists` or `get_many`, or the next chunk, key, body or record of an iteration. A longer step raises
        QueryTimeoutError, soon after its limit. The time between two steps does not count, so a page may be read
        slowly.
        """

    @abstractmethod
    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the write lock of the tenant and return a transaction on its records.

        A tenant has one writer at a time. A backend may have one lock for all tenants. The transaction sees every
        commit to the tenant that ended before. Another tenant may have a writer meanwhile, see `write_alone`.

        Raises StorageBusyError if another writer holds the lock for more than `wait` seconds, or if the database
        accepts no writes now. Nothing was written then, and the caller may try again.
        """

    def write_alone(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the write locks of all tenants and return a transaction on the records of one.

        No other transaction of the store runs until this one ends. So reads of all tenants show one point in time.
        A backend whose `write` locks each tenant on its own overrides this. Raises StorageBusyError as `write` does.
        """
        return self.write(tenant, wait)

    def share_values(self) -> AbstractContextManager[SharedValues]:
        """Return a transaction on the values that the processes of the store share, see `SharedValues`.

        The end of the `with` block commits, and an exception rolls back. A commit survives the end of the process. The
        store deletes values some time after they expire. The clocks of machines may differ by up to two hours.

        Only stores with `has_shared_values` have such values. All processes of other stores run on one machine, and
        share a file. Raises StorageUnavailableError, also for a backend without such values.
        """
        raise StorageUnavailableError(f"{type(self).__name__} keeps no values that processes share")

    def lease(self, task: str) -> Lease:
        """Return the lease of a background task, such as `webhooks`. `Lease.try_acquire` acquires it.

        `close` of the store ends the lease. Only stores with `has_leases` have leases. All processes of other stores
        run on one machine, and lock a file. Raises StorageUnavailableError for a backend without leases.
        """
        raise StorageUnavailableError(f"{type(self).__name__} has no leases")

    @abstractmethod
    def tenants(self) -> list[str]:
        """Return the names of all tenants with records, sorted. Tenants that were written before may be included."""

    @abstractmethod
    def version(self, tenant: str) -> object:
        """Return a value that changes with every commit to the tenant, by any process.

        After a commit of another process it changes within `version_lag_seconds`. It may change without a commit. The
        call takes microseconds, so caches can compare it on every use.
        """

    def watch_commits(self, on_commit: Callable[[], None]) -> None:
        """Call `on_commit` after each commit, by any process, of which the database notifies this process.

        A request that waits for a commit is then answered at once. Any thread may call the function. It must not wait
        or raise. Calls may be missing, so a caller also compares versions at intervals. By default this does nothing.
        """

    def watch_statements(self, seconds: float, on_slow: Callable[[str, float], None]) -> None:
        """Call `on_slow` with the text and the duration of each statement that takes longer than `seconds`.

        The text contains no value of a record. The function is called in the thread of the statement and must not
        raise. A backend without statements does nothing.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """Return the damage found in the store, one sentence each. An intact store returns an empty list."""

    def back_up(self, folder: Path, on_pinned: Callable[[], None], wait: float = 60.0) -> None:
        """Copy the store, as it is at one point in time, to files in an empty folder.

        `on_pinned` is called at that point, while no other process can commit, and should take little time. The copies
        must not be written, because they may share their content with the store. Raises BackupUnsupportedError,
        StorageBusyError if another writer holds the lock for more than `wait` seconds, StorageError and OSError.
        """
        raise BackupUnsupportedError(
            f"{type(self).__name__} cannot copy its stores to files: use the tools of its database"
        )

    @classmethod
    def backed_up_store(cls, folder: Path) -> Path:
        """Return the file or folder in `folder` that becomes the store when a backup is restored."""
        raise BackupUnsupportedError(f"{cls.__name__} cannot restore stores from files: use the tools of its database")

    @classmethod
    def store_files(cls, path: Path) -> list[Path]:
        """Return the files or folders that form the store at `path`. Some may be missing."""
        return [path]

    @classmethod
    def lock_exclusively(cls, path: Path) -> AbstractContextManager[None]:
        """Return a context manager that keeps all other processes out of the existing store at `path`.

        It raises StoreInUseError if a process has the store open, and OSError.
        """
        raise BackupUnsupportedError(f"{cls.__name__} cannot restore stores from files: use the tools of its database")

    @abstractmethod
    def close(self) -> None:
        """Close all files and connections. A second call does nothing."""
