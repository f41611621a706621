"""Storage of named collections of documents, chosen by URL.

`open_store("sqlite:///chalk.db", collections)` opens the backend that the scheme names. Third parties plug in through
the entry-point group `chalk_flask.backends` (name = URL scheme, object = a `Backend` subclass) and prove themselves by
subclassing `backends.testing.BackendConformance`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from backends.base import (
    Backend,
    Closeable,
    Collection,
    Field,
    InvalidQueryError,
    InvalidStorageURLError,
    Page,
    Record,
    Snapshot,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
    Transaction,
    Value,
)
from backends.copy import CONTROL, COPY_MARKER, check_complete, copy_store
from backends.errors import IncompleteCopyError, StoreNotEmptyError
from backends.iteration import batched
from backends.query import (
    KEY,
    MATCH_ALL,
    MATCH_NONE,
    And,
    Compare,
    In,
    Key,
    Not,
    Operator,
    Or,
    OrderBy,
    Query,
    Subquery,
    Where,
    and_,
)

__all__ = [
    "CONTROL",
    "COPY_MARKER",
    "KEY",
    "MATCH_ALL",
    "MATCH_NONE",
    "And",
    "Backend",
    "Closeable",
    "Collection",
    "Compare",
    "Field",
    "In",
    "IncompleteCopyError",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "Key",
    "Not",
    "Operator",
    "Or",
    "OrderBy",
    "Page",
    "Query",
    "Record",
    "Snapshot",
    "StorageBusyError",
    "StorageError",
    "StorageUnavailableError",
    "StoreNotEmptyError",
    "Subquery",
    "Transaction",
    "Value",
    "Where",
    "and_",
    "backend_class",
    "batched",
    "copy_store",
    "installed_backends",
    "open_store",
    "store_exists",
]

GROUP = "chalk_flask.backends"

# Imported on first use, so that a process pays for the one backend it opens.
BUILT_IN = {
    "json": "backends.jsonfile.backend:JSONFileBackend",
    "memory": "backends.memory.backend:MemoryBackend",
    "sqlite": "backends.sqlite.backend:SQLiteBackend",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def installed_backends() -> dict[str, str]:
    """URL scheme to `module:class` of every backend that can be opened here, built in or plugged in."""
    plugged = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted((plugged | BUILT_IN).items()))


def backend_class(url: str) -> type[Backend]:
    """The backend that a storage URL names. Raises InvalidStorageURLError."""
    match = _SCHEME.match(url)
    if not match:
        raise InvalidStorageURLError(
            "a storage URL starts with a scheme, as in sqlite:///chalk.db, json:///folder or memory:"
        )
    scheme = match[1].lower()
    target = installed_backends().get(scheme)
    if target is None:
        raise InvalidStorageURLError(f"no backend for {scheme!r}; installed: {', '.join(installed_backends())}")
    return _load(scheme, target)


def open_store(url: str, collections: Iterable[Collection], *, allow_incomplete: bool = False) -> Backend:
    """Open the store at `url`, creating or widening what is missing. Raises InvalidStorageURLError or StorageUnavailableError.

    Raises IncompleteCopyError for a store that a copy has begun to fill, unless `unfinished` says that this one may be so.
    """
    store = backend_class(url).open(url, collections)
    if COPY_MARKER.name in store.collections and not allow_incomplete:
        try:
            with contextlib.suppress(StorageUnavailableError):  # what cannot be read says so to whoever reads it
                check_complete(store)
        except BaseException:
            store.close()
            raise
    return store


def store_exists(url: str) -> bool:
    """Whether `open_store` would find a store, without creating one. Raises InvalidStorageURLError."""
    return backend_class(url).exists(url)


def _load(scheme: str, target: str) -> type[Backend]:
    try:
        if scheme in BUILT_IN:
            module, _, name = target.partition(":")
            found = getattr(import_module(module), name)
        else:
            found = EntryPoint(scheme, target, GROUP).load()
    except (ImportError, AttributeError) as error:
        raise InvalidStorageURLError(f"the backend for {scheme!r} ({target}) cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise InvalidStorageURLError(f"the backend for {scheme!r} ({target}) is not a backends.Backend")
    return found
