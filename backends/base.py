"""The storage contract: named collections of documents, per tenant, with snapshots and transactions.

A backend knows neither HTTP nor OneRoster. It keeps `Record`s (a key, the exact bytes to serve, and the comparison
keys by which they are found) and answers `Query` trees. `backends.testing.BackendConformance` is the proof that a
backend keeps every promise made here.

Errors, all of them `StorageError`:

    StorageError
    |-- BadStorageURL     no backend for the URL, or the URL is malformed
    |-- BadQuery          the query names something that is not declared, or compares text with a number
    |-- StoreBusy         another writer held the store for longer than one was ready to wait
    `-- StoreFailed       the medium failed or holds something that is not ours; `__cause__` is the driver's error
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias
from urllib.parse import unquote

from backends.query import EVERYTHING, KEY, Among, Compare, Key, Query, Where, conditions

__all__ = [
    "Backend",
    "BadQuery",
    "BadStorageURL",
    "Collection",
    "Field",
    "Page",
    "Record",
    "Snapshot",
    "StorageError",
    "StoreBusy",
    "StoreFailed",
    "Transaction",
    "Value",
    "file_path",
    "validate",
]

Value: TypeAlias = Key | tuple[Key, ...] | None


class StorageError(Exception):
    """Whatever goes wrong below the contract; a driver's own error never escapes."""


class BadStorageURL(StorageError):
    """No backend answers to the URL, or the URL is malformed."""


class BadQuery(StorageError):
    """The query names a collection or field that is not declared, or compares a field with the wrong kind of value."""


class StoreBusy(StorageError):
    """Another writer held the store for longer than the caller was ready to wait; nothing was written."""


class StoreFailed(StorageError):
    """The medium failed, or what lies there is not a store of ours."""


@dataclass(frozen=True, slots=True)
class Field:
    """One comparable path of a collection.

    A path that ends in `.*` is dynamic: it stands for every path with that beginning, holds text, and may hold many
    values. `indexed` is a hint that equality on the field should be fast.
    """

    path: str
    kind: Literal["text", "number"] = "text"
    many: bool = False
    indexed: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether the path stands for a family of paths."""
        return self.path.endswith(".*")


@dataclass(frozen=True)
class Collection:
    """A named set of records and its fields, declared once.

    `served` collections move the tenant's revision when a commit touches them; others (tokens, bookkeeping) do not.
    """

    name: str
    fields: tuple[Field, ...] = ()
    served: bool = True

    @cached_property
    def by_path(self) -> Mapping[str, Field]:
        """The fields by path, the key among them."""
        return {KEY: Field(KEY, indexed=True)} | {f.path: f for f in self.fields}

    def field(self, path: str) -> Field:
        """The field a path belongs to, a dynamic one when it covers it. Raises BadQuery for an unknown path."""
        if found := self.by_path.get(path):
            return found
        for candidate in self.fields:
            if candidate.dynamic and path.startswith(candidate.path[:-1]):
                return candidate
        raise BadQuery(f"collection {self.name!r} has no field {path!r}")


@dataclass(frozen=True, slots=True)
class Record:
    """A document and how it is found.

    `body` is one JSON document in UTF-8 without raw line breaks or tabs (as any compact encoder writes it); it is
    given back byte for byte. `values` holds comparison keys by path: a tuple for a many-valued or dynamic field, None
    or nothing for a missing one. It may hold more than is served; paths that the collection does not declare are
    refused with BadQuery.
    """

    key: str
    body: bytes
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """An answer: `chunks`, joined by single commas, are the documents in order; `total` counts before paging.

    Every chunk holds one document at least, so an empty page has no chunks. Chunks are read from the snapshot while
    they are iterated: closing the snapshot ends the page with StoreFailed.
    """

    chunks: Iterator[bytes]
    total: int

    def body(self) -> bytes:
        """All documents of the page, joined by commas."""
        return b",".join(self.chunks)


class Snapshot(ABC):
    """One tenant's records as they stood at one moment, whatever is written meanwhile. A context manager."""

    @property
    @abstractmethod
    def revision(self) -> int:
        """A number that is higher after every commit that touched a served collection; 0 before the first.

        It is not reused when a store is deleted and made anew, so that caches and ETags may hang on it.
        """

    @abstractmethod
    def find(self, query: Query) -> Page:
        """The page that the query asks for. Raises BadQuery."""

    @abstractmethod
    def bodies(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those keys that exist."""

    @abstractmethod
    def keys(self, collection: str, where: Where = EVERYTHING) -> Iterator[str]:
        """The keys of the matching records in key order, without holding them all."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the moment; pages that are still being read end. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transaction(Snapshot):
    """A snapshot that can write and sees its own writes. Leaving it commits; an exception undoes all of it."""

    @abstractmethod
    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records, each replacing the whole of what its key held before."""

    @abstractmethod
    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Remove the records with these keys; unknown keys are ignored."""


class Backend(ABC):
    """A store. Safe for use by many threads at once; by several processes where `shared`."""

    durable: bool = True
    """Whether what was committed is there after the process ended."""
    shared: bool = True
    """Whether several processes may use the store at once."""

    collections: Mapping[str, Collection]

    @classmethod
    @abstractmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the store, creating or widening what is missing. Raises BadStorageURL or StoreFailed."""

    @classmethod
    @abstractmethod
    def exists(cls, url: str) -> bool:
        """Whether `open` would find a store, without creating anything."""

    @abstractmethod
    def read(self, tenant: str) -> Snapshot:
        """A snapshot of the tenant's records; an unknown tenant has none."""

    @abstractmethod
    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Start to write, alone. Raises StoreBusy when another writer is not done within `wait` seconds."""

    @abstractmethod
    def stamp(self, tenant: str) -> object:
        """A value that differs from an earlier one if anything of the tenant was committed since, by anyone.

        It may differ without need. Cheap (microseconds): caches of unserved records hang on it.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """What is wrong with the store as a store, a sentence each; an empty list when nothing is."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_FILE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:///([^?#]+)")


def file_path(url: str) -> Path:
    """The path in a `scheme:///path` URL, percent-decoded: three slashes are relative to the working directory, four
    absolute (`sqlite:////var/lib/chalk/chalk.db`). Raises BadStorageURL for any other form."""
    scheme = url.partition(":")[0]
    match = _FILE_URL.fullmatch(url)
    if not match:
        raise BadStorageURL(
            f"{url!r} names no file: write {scheme}:///relative/path or {scheme}:////absolute/path"
            " (%3F and %23 stand for ? and # in a name)"
        )
    try:
        path = unquote(match[1], errors="strict")
    except UnicodeDecodeError as error:
        raise BadStorageURL(f"{url!r} is not UTF-8 once it is percent-decoded") from error
    if "\0" in path:
        raise BadStorageURL(f"{url!r} holds a NUL, which no file name can")
    return Path(path)


def validate(query: Query, collections: Mapping[str, Collection]) -> Collection:
    """The query's collection, once everything that the query names is known to be declared. Raises BadQuery."""
    owner = declared(query.collection, collections)
    if query.offset < 0 or (query.limit is not None and query.limit < 0):
        raise BadQuery(f"offset {query.offset} and limit {query.limit} must not be negative")
    for order in query.order:
        owner.field(order.field)
    validate_where(query.where, owner, collections)
    return owner


def validate_where(where: Where, owner: Collection, collections: Mapping[str, Collection]) -> None:
    """Raises BadQuery unless every leaf of the tree names a declared field and compares it with its own kind."""
    for name, leaf in conditions(where):
        _check_leaf(leaf, owner if name is None else declared(name, collections))


def declared(name: str, collections: Mapping[str, Collection]) -> Collection:
    """The collection of that name. Raises BadQuery."""
    try:
        return collections[name]
    except KeyError:
        raise BadQuery(f"there is no collection {name!r}") from None


def _check_leaf(leaf: Compare | Among, owner: Collection) -> None:
    field = owner.field(leaf.field)
    asked: tuple[Key, ...] = (leaf.value,) if isinstance(leaf, Compare) else ()
    if isinstance(leaf, Among) and isinstance(leaf.values, tuple):
        asked = leaf.values
    wrong = str if field.kind == "number" else (int, float)
    if any(isinstance(value, wrong) for value in asked):
        raise BadQuery(f"field {field.path!r} holds {field.kind}: it cannot be compared with {asked!r}")
    if isinstance(leaf, Compare) and leaf.operator == "~" and field.kind == "number":
        raise BadQuery(f"field {field.path!r} holds numbers: '~' is asked of text only")
    for value in asked:
        if isinstance(value, str):
            check_text(value)


def check_text(value: str) -> None:
    """Raises BadQuery for text that has no UTF-8 form (lone surrogates): no backend could keep or compare it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadQuery(f"{value!r} cannot be written as UTF-8") from None


def check_record(record: Record, owner: Collection) -> None:
    """Raises BadQuery when a record's values name an undeclared path or are of the wrong kind."""
    check_text(record.key)
    for path, value in record.values.items():
        field = owner.field(path)
        if isinstance(value, tuple) and not (field.many or field.dynamic):
            raise BadQuery(f"field {path!r} holds one value, not {value!r}")
        wrong = str if field.kind == "number" else (int, float)
        for single in value if isinstance(value, tuple) else () if value is None else (value,):
            if isinstance(single, wrong):
                raise BadQuery(f"field {path!r} holds {field.kind}: {single!r} is not")
            if isinstance(single, str):
                check_text(single)
