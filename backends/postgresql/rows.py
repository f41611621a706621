"""Rows of records as PostgreSQL stores them, and their transfer with COPY in binary form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.postgresql.connections import Connection, driver_errors
from backends.postgresql.dialect import PostgreSQLDialect
from backends.postgresql.schema import scalar_paths
from backends.postgresql.text import encode_text, identifier
from backends.records import Collection, Record, Value

__all__ = ["SIDE_COLUMNS", "RowBuilder", "Rows"]

SIDE_COLUMNS = ("_m_tenant", "_m_path", "_m_id", "_m_key", "_m_text", "_m_number")
_SIDE_TYPES = ["int4", "int4", "int8", "text", "text", "float8"]


@dataclass(slots=True)
class Rows:
    """Rows of some records, and those of their values in the side table."""

    records: list[tuple[Any, ...]] = field(default_factory=list)
    side_rows: list[tuple[Any, ...]] = field(default_factory=list)


class RowBuilder:
    """Converter of the records of one collection into rows. `path_id` returns the id of a path of a collection."""

    def __init__(
        self, dialect: PostgreSQLDialect, owner: Collection, tenant: int, path_id: Callable[[str, str], int]
    ) -> None:
        self.owner = owner
        self.table = dialect.table(owner.name)
        self.side_table = dialect.side_table
        self._tenant = tenant
        self._path_id = path_id
        self._scalars = scalar_paths(owner)
        self._scalar_set = frozenset(self._scalars)
        kinds = ["float8" if owner.field_for(path).kind == "number" else "text" for path in self._scalars]
        self.columns = ("_tenant", "_id", "_key", "_folded", "_body", *map(identifier, self._scalars))
        self.types = ["int4", "int8", "text", "text", "bytea", *kinds]

    def add(self, row_id: int, key: str, record: Record, rows: Rows) -> None:
        """Append the rows of a checked record. `key` is its encoded key."""
        values = record.values
        folded = record.key.casefold()
        scalars = [_stored(values.get(path)) for path in self._scalars]
        rows.records.append(
            (self._tenant, row_id, key, None if folded == record.key else encode_text(folded), record.body, *scalars)
        )
        if len(values) != len(scalars) - scalars.count(None):
            self._add_side_rows(row_id, key, values, rows.side_rows)

    def _add_side_rows(
        self, row_id: int, key: str, values: Mapping[str, Value], side_rows: list[tuple[Any, ...]]
    ) -> None:
        for path, value in values.items():
            if path in self._scalar_set or value is None or value == ():
                continue
            path_id = self._path_id(self.owner.name, path)
            for single in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
                if isinstance(single, str):
                    side_rows.append((self._tenant, path_id, row_id, key, encode_text(single), None))
                else:
                    side_rows.append((self._tenant, path_id, row_id, key, None, float(single)))

    def copy_records(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows of the collection."""
        _copy(connection, f"{self.table} ({', '.join(self.columns)})", self.types, rows)

    def copy_side_rows(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of the side table."""
        if rows:
            _copy(connection, f"{self.side_table} ({', '.join(SIDE_COLUMNS)})", _SIDE_TYPES, rows)


def _stored(value: Value) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else encode_text(value)
    return None if value is None else float(value)  # type: ignore[arg-type]  # a scalar field has no tuple


def _copy(connection: Connection, target: str, types: list[str], rows: Iterable[Sequence[Any]]) -> None:
    sql = f"COPY {target} FROM STDIN (FORMAT BINARY)"
    with (
        driver_errors("writing"),
        connection.lock,
        connection.driver.cursor() as cursor,
        cursor.copy(sql.encode()) as copy,
    ):
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
