"""A store that comes into being with its first transaction, so that a refused package leaves no trace of one."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from backends import Backend, Snapshot, Transaction, open_store, store_exists
from chalk_flask.storage import COLLECTIONS

__all__ = ["LazyStore", "RosterStore"]


class RosterStore(Protocol):
    """Where rosters are read and written; any `Backend` will do."""

    def read(self, tenant: str) -> Snapshot:
        """A snapshot of the tenant's records."""
        ...

    def write(self, tenant: str) -> Transaction:
        """A transaction on them."""
        ...


class LazyStore:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._empty.close()
        if self._store is not None:
            self._store.close()
