"""Compiled queries of SQLite with their row ids."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import orjson

from backends.sql.dialect import Fragment
from backends.sql.query_cache import CompiledQuery

__all__ = ["CachedQuery", "parse_ids"]

_ROW_ID_BYTES = 8
_PARSED_ID_BYTES = 65_536
"""Length of the part of a text of row ids that is parsed at once."""


@dataclass(slots=True)
class CachedQuery(CompiledQuery):
    """Compiled query with its row ids, and with forms that use other indexes."""

    range_from_where: Fragment | None = None
    """The same rows selected by a range index; faster to count, and to read if there are few."""
    range_is_ordered: bool = False
    """True if `range_from_where` selects rows in the order of the query."""
    sorting_order_by: Fragment | None = None
    """The same order, by sorting the rows that an index of the condition finds; faster for all rows, and for few."""
    scans_records: bool = False
    """True if no index finds the matching rows, so that counting them reads all records of the tenant."""
    ids: array[int] | None = None
    """Row ids of all matching records in the order of the query; None if not selected yet."""
    ids_ascend: bool = False
    """True if `ids` are in ascending order, which is the order of the table."""
    has_large_bodies: bool = False
    """True if a chunk of documents was larger than allowed, so that their sizes must be looked up."""

    @property
    def result_bytes(self) -> int:
        """Memory of the row ids in bytes."""
        return _ROW_ID_BYTES * len(self.ids) if self.ids is not None else 0


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
