"""Whole records from a SQLite store: the row, and what the side table holds of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from backends.query import Key
from backends.records import Collection, Record, Value
from backends.sqlite.compiler import Fragment, quote_identifier
from backends.sqlite.connection import scalar_paths

__all__ = ["RecordLoader"]


class RecordLoader:
    """How the records of one collection lie in the tables. SQLite gives numbers as floats, and the values of a path
    once and in ascending order: as the contract wants them."""

    def __init__(self, owner: Collection) -> None:
        self._owner = owner
        self._scalars = scalar_paths(owner)

    def paths(self) -> Fragment:
        """The numbers and names of the paths of which the side table holds values."""
        return Fragment("SELECT id, path FROM _paths WHERE collection = ?", (self._owner.name,))

    def rows(self, tenant: int) -> Fragment:
        """Row number, key, body and scalar values of a tenant's records, in key order."""
        names = ", ".join(["_id", "_key", "_body", *map(quote_identifier, self._scalars)])
        return Fragment(
            f"SELECT {names} FROM {quote_identifier(self._owner.name)} WHERE _tenant = ? ORDER BY _key", (tenant,)
        )

    def sides(self, rows: Sequence[Sequence[Any]], paths: Mapping[int, str]) -> Fragment:
        """What the side table holds of these rows under these paths: row number, path and value, ascending."""
        numbers, wanted = (orjson.dumps(each).decode() for each in ([row[0] for row in rows], list(paths)))
        return Fragment(
            "SELECT id, path, value FROM _many WHERE id IN (SELECT value FROM json_each(?))"
            " AND path IN (SELECT value FROM json_each(?)) ORDER BY id, path, value",
            (numbers, wanted),
        )

    def records(
        self, rows: Sequence[Sequence[Any]], sides: Sequence[tuple[int, int, Key]], paths: Mapping[int, str]
    ) -> Iterator[Record]:
        """The records of the rows; what lies under a path that is declared no more is left out."""
        held: dict[int, dict[str, tuple[Key, ...]]] = {}
        for number, path, value in sides:
            many = held.setdefault(number, {})
            many[paths[path]] = (*many.get(paths[path], ()), value)
        for number, key, body, *scalars in rows:
            values: dict[str, Value] = {
                path: value for path, value in zip(self._scalars, scalars, strict=True) if value is not None
            }
            yield Record(key, bytes(body), values | held.get(number, {}))
