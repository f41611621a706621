"""Cache of compiled queries with their numbers of matches and row ids."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

from backends.query import OrderBy, Where
from backends.sqlite.compiler import Fragment

__all__ = ["CacheKey", "CachedQuery", "QueryCache", "parse_ids"]

CacheKey: TypeAlias = tuple[str, str, Where, tuple[OrderBy, ...]]
"""Tenant, collection, condition and order: all of a query except its page."""

_MAX_ENTRIES = 4096
_MAX_ROW_ID_BYTES = 64 << 20
_ROW_ID_BYTES = 8
_PARSED_ID_BYTES = 65_536
"""Length of the part of a text of row ids that is parsed at once."""


@dataclass(slots=True)
class CachedQuery:
    """Compiled query at one revision of one tenant, with its results so far."""

    revision: int
    prefix: Fragment
    from_where: Fragment
    order_by: Fragment
    range_from_where: Fragment | None = None
    """The same rows selected by a range index; faster to count, and to read if there are few."""
    range_is_ordered: bool = False
    """True if `range_from_where` selects rows in the order of the query."""
    sorting_order_by: Fragment | None = None
    """The same order, by sorting the rows that an index of the condition finds; faster for all rows, and for few."""
    scans_records: bool = False
    """True if no index finds the matching rows, so that counting them reads all records of the tenant."""
    total: int | None = None
    """Number of matching records; None if not counted yet."""
    ids: array[int] | None = None
    """Row ids of all matching records in the order of the query; None if not selected yet."""
    ids_ascend: bool = False
    """True if `ids` are in ascending order, which is the order of the table."""
    has_large_bodies: bool = False
    """True if a chunk of documents was larger than allowed, so that their sizes must be looked up."""
    look_ups: int = 0
    """Number of look-ups."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while `ids` are selected, so that concurrent readers of the same query select them once."""


class QueryCache:
    """LRU cache of compiled queries, bounded in entries and in bytes of row ids. Thread-safe."""

    def __init__(self, max_entries: int = _MAX_ENTRIES, max_bytes: int = _MAX_ROW_ID_BYTES) -> None:
        self._queries: OrderedDict[CacheKey, CachedQuery] = OrderedDict()
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: CacheKey, revision: int) -> CachedQuery | None:
        """Return the cached query; None if there is none at this revision."""
        with self._lock:
            cached = self._queries.get(key)
            if cached is None or cached.revision != revision:
                return None
            self._queries.move_to_end(key)
            return cached

    def store(self, key: CacheKey, query: CachedQuery) -> None:
        """Store a query. Call it again after the query got its row ids."""
        with self._lock:
            if old := self._queries.pop(key, None):
                self._bytes -= _size(old) if old is not query else 0
            self._queries[key] = query
            self._bytes += _size(query)
            while len(self._queries) > self._max_entries or (self._bytes > self._max_bytes and len(self._queries) > 1):
                self._bytes -= _size(self._queries.popitem(last=False)[1])


def _size(query: CachedQuery) -> int:
    return _ROW_ID_BYTES * len(query.ids) if query.ids is not None else 0


def parse_ids(text: bytes) -> array[int]:
    """Return row ids that are joined by commas. They are parsed in parts, so that few are Python objects at a time."""
    ids = array("q")
    start = 0
    while start < len(text):
        end = text.find(b",", start + _PARSED_ID_BYTES)
        end = len(text) if end < 0 else end
        ids.fromlist(orjson.loads(b"[%b]" % text[start:end]))
        start = end + 1
    return ids
