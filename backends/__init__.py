"""Storage of named collections of documents in a backend that a URL selects.

`open_store("sqlite:///chalk.db", collections)` takes a URL and the declared collections and returns a `Backend`. The
caller then gets a `Snapshot` from `Backend.read(tenant)` or a `Transaction` from `Backend.write(tenant)`. Records go
in as `Record`s (key, JSON bytes, comparison keys). They come out byte for byte as `Page`s that match a `Query`.

Third parties add backends with the entry-point group `chalk_flask.backends`: the name is the URL scheme, the object
is a `Backend` subclass. `backends.testing.BackendConformance` is the test suite that such a backend must pass.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from importlib import import_module

from backends.base import (
    MAX_CHUNK_BYTES,
    Backend,
    Closeable,
    Collection,
    Field,
    InvalidQueryError,
    InvalidStorageURLError,
    Lease,
    Page,
    Record,
    SharedValues,
    Snapshot,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
    Transaction,
    Value,
)
from backends.batching import RecordId, batched, batched_by_size, read_first, read_in_parts
from backends.copy import CONTROL, COPY_MARKER, OnProgress, check_complete, copy_store
from backends.errors import (
    BackupUnsupportedError,
    DamagedStoreError,
    IncompleteCopyError,
    NewerStoreError,
    QueryTimeoutError,
    StorageFullError,
    StoreInUseError,
    StoreNotEmptyError,
)
from backends.files.replacement import Move, finish_replacement, replace_files
from backends.query import (
    FOLDED_KEY,
    KEY,
    MATCH_ALL,
    MATCH_NONE,
    MAX_SUBSTRING_LENGTH,
    And,
    Compare,
    In,
    Not,
    Operator,
    Or,
    OrderBy,
    Query,
    Scalar,
    Subquery,
    Where,
    and_,
)
from backends.records import MAX_DYNAMIC_PATH_LENGTH, MAX_DYNAMIC_VALUES, limit_dynamic_values
from backends.repair import rebuild_values, value_problems
from backends.validation import file_path
from backends.waiting import WaitRequired, immediate_reads

__all__ = [
    "BUILT_IN_BACKENDS",
    "CONTROL",
    "COPY_MARKER",
    "ENTRY_POINT_GROUP",
    "FOLDED_KEY",
    "KEY",
    "MATCH_ALL",
    "MATCH_NONE",
    "MAX_CHUNK_BYTES",
    "MAX_DYNAMIC_PATH_LENGTH",
    "MAX_DYNAMIC_VALUES",
    "MAX_SUBSTRING_LENGTH",
    "And",
    "Backend",
    "BackupUnsupportedError",
    "Closeable",
    "Collection",
    "Compare",
    "DamagedStoreError",
    "Field",
    "In",
    "IncompleteCopyError",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "Lease",
    "Move",
    "NewerStoreError",
    "Not",
    "OnProgress",
    "Operator",
    "Or",
    "OrderBy",
    "Page",
    "Query",
    "QueryTimeoutError",
    "Record",
    "RecordId",
    "Scalar",
    "SharedValues",
    "Snapshot",
    "StorageBusyError",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "StoreInUseError",
    "StoreNotEmptyError",
    "Subquery",
    "Transaction",
    "Value",
    "WaitRequired",
    "Where",
    "and_",
    "backend_class",
    "batched",
    "batched_by_size",
    "copy_store",
    "file_path",
    "finish_restore",
    "immediate_reads",
    "installed_backends",
    "limit_dynamic_values",
    "open_store",
    "read_first",
    "read_in_parts",
    "rebuild_values",
    "repair_store",
    "replace_files",
    "store_exists",
    "value_problems",
]

ENTRY_POINT_GROUP = "chalk_flask.backends"

# Imported on first use, so that a process imports only the backend that it opens.
BUILT_IN_BACKENDS = {
    "json": "backends.jsonfile:JSONFileBackend",
    "memory": "backends.memory:MemoryBackend",
    "postgresql": "backends.postgresql:PostgreSQLBackend",
    "sqlite": "backends.sqlite:SQLiteBackend",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def installed_backends() -> dict[str, str]:
    """Return `module:class` of every installed backend by URL scheme. Built-in schemes cannot be replaced."""
    from importlib.metadata import entry_points  # takes as long to import as the rest of this package

    third_party = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return dict(sorted((third_party | BUILT_IN_BACKENDS).items()))


def backend_class(url: str) -> type[Backend]:
    """Return the backend class for the scheme of a storage URL. Raises InvalidStorageURLError."""
    match = _SCHEME.match(url)
    if not match:
        raise InvalidStorageURLError(
            "a storage URL starts with a scheme, as in sqlite:///chalk.db, json:///folder or memory:"
        )
    scheme = match[1].lower()
    # Looking for installed packages takes 10 ms.
    target = BUILT_IN_BACKENDS.get(scheme) or installed_backends().get(scheme)
    if target is None:
        raise InvalidStorageURLError(f"no backend for {scheme!r}; installed: {', '.join(installed_backends())}")
    return _load(scheme, target)


def open_store(url: str, collections: Iterable[Collection], *, allow_incomplete: bool = False) -> Backend:
    """Open the store at `url`; create the store, and add collections and fields, if they are missing.

    Raises InvalidStorageURLError or StorageUnavailableError. Raises IncompleteCopyError for the target of a copy that
    has not finished, unless `allow_incomplete` is True.
    """
    finish_restore(url)
    store = backend_class(url).open(url, collections)
    if COPY_MARKER.name in store.collections and not allow_incomplete:
        try:
            with contextlib.suppress(StorageUnavailableError):  # the next read raises it again
                check_complete(store)
        except BaseException:
            store.close()
            raise
    return store


def repair_store(url: str, collections: Iterable[Collection]) -> list[str]:
    """Rebuild what the bodies of the records determine in the store at `url`; return what was done, see `Backend`.

    Raises InvalidStorageURLError and StorageUnavailableError.
    """
    finish_restore(url)
    return backend_class(url).repair(url, collections)


def store_exists(url: str) -> bool:
    """Return True if there is a store at `url`, without creating one. Raises InvalidStorageURLError."""
    finish_restore(url)
    return backend_class(url).exists(url)


def finish_restore(url: str) -> None:
    """Complete the restore of a backup at `url` that was interrupted. Raises StorageUnavailableError."""
    with contextlib.suppress(InvalidStorageURLError):  # the backend does not use files
        finish_replacement(file_path(url))


def _load(scheme: str, target: str) -> type[Backend]:
    try:
        if scheme in BUILT_IN_BACKENDS:
            module, _, name = target.partition(":")
            loaded = getattr(import_module(module), name)
        else:
            from importlib.metadata import EntryPoint

            loaded = EntryPoint(scheme, target, ENTRY_POINT_GROUP).load()
    except (ImportError, AttributeError) as error:
        raise InvalidStorageURLError(f"the backend for {scheme!r} ({target}) cannot be loaded: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise InvalidStorageURLError(f"the backend for {scheme!r} ({target}) is not a backends.Backend")
    return loaded
