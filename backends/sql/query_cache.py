"""Cache of compiled queries with their totals and other results."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from backends.query import OrderBy, Where
from backends.sql.dialect import Fragment

__all__ = ["CacheKey", "CompiledQuery", "QueryCache"]

CacheKey: TypeAlias = tuple[str, str, Where, tuple[OrderBy, ...]]
"""Tenant, collection, condition and order: all of a query except its page."""

_MAX_ENTRIES = 4096
_MAX_RESULT_BYTES = 64 << 20


@dataclass(slots=True)
class CompiledQuery:
    """Compiled query at one revision of one tenant, with its results so far. Each database adds results of its own."""

    revision: int
    prefix: Fragment
    from_where: Fragment
    order_by: Fragment
    total: int | None = None
    """Number of matching records; None if not counted yet."""
    look_ups: int = 0
    """Number of pages that were requested with the query at this revision."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while results are selected, so that concurrent readers of the same query select them once."""

    @property
    def result_bytes(self) -> int:
        """Memory of the cached results in bytes."""
        return 0


_Compiled = TypeVar("_Compiled", bound=CompiledQuery)


class QueryCache(Generic[_Compiled]):
    """LRU cache of compiled queries, bounded in entries and in bytes of results. Thread-safe."""

    def __init__(self, max_entries: int = _MAX_ENTRIES, max_bytes: int = _MAX_RESULT_BYTES) -> None:
        self._queries: OrderedDict[CacheKey, _Compiled] = OrderedDict()
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: CacheKey, revision: int) -> _Compiled | None:
        """Return the cached query; None if there is none at this revision."""
        with self._lock:
            cached = self._queries.get(key)
            if cached is None or cached.revision != revision:
                return None
            self._queries.move_to_end(key)
            return cached

    def store(self, key: CacheKey, query: _Compiled) -> None:
        """Store a query. Call it again after the query got results, so that their memory counts."""
        with self._lock:
            if old := self._queries.pop(key, None):
                self._bytes -= old.result_bytes if old is not query else 0
            self._queries[key] = query
            self._bytes += query.result_bytes
            while len(self._queries) > self._max_entries or (self._bytes > self._max_bytes and len(self._queries) > 1):
                self._bytes -= self._queries.popitem(last=False)[1].result_bytes
