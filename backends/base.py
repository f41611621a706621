"""The storage contract: named collections of documents, per tenant, with snapshots and transactions.

A backend knows neither HTTP nor OneRoster. It keeps `Record`s (a key, the exact bytes to serve, and the comparison
keys by which they are found) and answers `Query` trees. `backends.testing.BackendConformance` is the proof that a
backend keeps every promise made here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from backends.errors import (
    InvalidQueryError,
    InvalidStorageURLError,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
)
from backends.query import MATCH_ALL, Query, Where
from backends.records import Collection, Field, Record, Value, normalize
from backends.validation import check_record, check_text, file_path, get_collection, validate, validate_where

__all__ = [
    "Backend",
    "Closeable",
    "Collection",
    "Field",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "Page",
    "Record",
    "Snapshot",
    "StorageBusyError",
    "StorageError",
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


@dataclass(slots=True)
class Page:
    """An answer: `chunks`, joined by single commas, are the documents in order; `total` counts before paging.

    Every chunk holds one document at least, so an empty page has no chunks. Chunks are read from the snapshot while
    they are iterated: closing the snapshot ends the page with StorageUnavailableError.
    """

    chunks: Iterator[bytes]
    total: int

    def body(self) -> bytes:
        """All documents of the page, joined by commas."""
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
    """One tenant's records as they stood at one moment, whatever is written meanwhile. A context manager."""

    @property
    @abstractmethod
    def revision(self) -> int:
        """A number that is higher after every commit that touched a served collection; 0 before the first.

        It is not reused when a store is deleted and made anew, so that caches and ETags may hang on it.
        """

    @abstractmethod
    def find(self, query: Query) -> Page:
        """The page that the query asks for. Raises InvalidQueryError."""

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record of the collection matches. Raises InvalidQueryError."""
        return self.find(Query(collection, where, limit=0)).total > 0

    @abstractmethod
    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those keys that exist."""

    @abstractmethod
    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """The keys of the matching records in key order, without holding them all."""

    @abstractmethod
    def scan(self, collection: str) -> Iterator[Record]:
        """All records in key order, without holding them all; each put elsewhere, is the same there.

        Values are those that were put, in the one form in which they compare: as `plain` gives them.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the moment; pages that are still being read end. Closing twice is harmless."""


class Transaction(Snapshot):
    """A snapshot that can write and sees its own writes. Leaving it commits; an exception undoes all of it."""

    committed: float | None = None
    """When others could see the commit, in seconds since the epoch, where a backend tells: leaving may take longer."""

    @abstractmethod
    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records, each replacing the whole of what its key held before."""

    @abstractmethod
    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Remove the records with these keys; unknown keys are ignored."""


class Backend(Closeable):
    """A store. Safe for use by many threads at once; by several processes where `shared`."""

    durable: bool = True
    """Whether what was committed is there after the process ended."""
    shared: bool = True
    """Whether several processes may use the store at once."""

    collections: Mapping[str, Collection]

    @classmethod
    @abstractmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the store, creating or widening what is missing. Raises InvalidStorageURLError or StorageUnavailableError."""

    @classmethod
    @abstractmethod
    def exists(cls, url: str) -> bool:
        """Whether `open` would find a store, without creating anything."""

    @abstractmethod
    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        """Return a snapshot of the tenant's records. An unknown tenant has no records.

        The snapshot contains every commit that ended before this call. With `at_least`, a value that `version`
        returned for any tenant, it may be older: it contains every commit that ended before that `version` call.
        A caller that just called `version` passes the value to save the backend a second look at the newest state.
        A backend may ignore `at_least`.
        """

    @abstractmethod
    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Start to write, alone. Raises StorageBusyError when another writer is not done within `wait` seconds."""

    @abstractmethod
    def tenants(self) -> list[str]:
        """The names of all tenants that have a record, in order; others for whom something was written may be there."""

    @abstractmethod
    def version(self, tenant: str) -> object:
        """A value that differs from an earlier one if anything of the tenant was committed since, by anyone.

        It may differ without need. Cheap (microseconds): caches of unserved records hang on it.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """What is wrong with the store as a store, a sentence each; an empty list when nothing is."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Closing twice is harmless."""
