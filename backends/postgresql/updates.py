"""Updates of stored rows: only columns and side-table values that differ are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.errors import DamagedStoreError
from backends.postgresql.connections import Connection
from backends.postgresql.rows import SIDE_COLUMNS, RowBuilder, Rows
from backends.postgresql.text import encode_text

__all__ = ["update_rows"]

_ID = 1
"""Index of the row id in a row."""
_FIRST_CHANGING = 4
"""Index of the first column that a new version of a record can change."""

_TYPES = {"int4": "int", "int8": "bigint"}


def update_rows(connection: Connection, builder: RowBuilder, tenant: int, rows: Rows) -> None:
    """Update stored rows to `rows`. The rows of their values in the side table are replaced where they differ."""
    ids = tuple(row[_ID] for row in rows.records)
    _update_records(connection, builder, tenant, rows.records, ids)
    _update_side_rows(connection, builder, tenant, rows.side_rows, ids)


def _update_records(
    connection: Connection, builder: RowBuilder, tenant: int, rows: Sequence[tuple[Any, ...]], ids: tuple[int, ...]
) -> None:
    keys = tuple(row[2] for row in rows)
    names = ", ".join(builder.columns[_FIRST_CHANGING:])
    sql = f"SELECT _id, {names} FROM {builder.table} WHERE _tenant = ? AND _key = ANY (?)"
    stored = {row[0]: row[1:] for row in connection.fetch_all(sql, (tenant, keys))}
    if len(stored) < len(ids):
        raise DamagedStoreError(f"rows of {builder.owner.name} have vanished: run `chalk-flask check`")
    by_columns: dict[tuple[int, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        old = stored[row[_ID]]
        differing = tuple(
            index
            for index, (value, former) in enumerate(zip(row[_FIRST_CHANGING:], old, strict=True), _FIRST_CHANGING)
            if value != (encode_text(former) if isinstance(former, str) else former)
        )
        if differing:
            by_columns.setdefault(differing, []).append(row)
    for differing, some in by_columns.items():
        _update_columns(connection, builder, tenant, differing, some)


def _update_columns(
    connection: Connection, builder: RowBuilder, tenant: int, columns: tuple[int, ...], rows: list[tuple[Any, ...]]
) -> None:
    assignments = ", ".join(f"{builder.columns[index]} = new.c{index}" for index in columns)
    arrays = ", ".join(f"?::{builder.types[index]}[]" for index in columns)
    names = ", ".join(f"c{index}" for index in columns)
    sql = (
        f"UPDATE {builder.table} SET {assignments} FROM unnest(?::text[], {arrays}) AS new (key, {names})"
        " WHERE _tenant = ? AND _key = new.key"
    )
    params = [tuple(row[2] for row in rows), *(tuple(_element(row[index]) for row in rows) for index in columns)]
    connection.fetch_all(sql, (*params, tenant))


def _element(value: Any) -> str | None:
    """Return a value as the text of an array element."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value if value is None or isinstance(value, str) else repr(value)


def _update_side_rows(
    connection: Connection, builder: RowBuilder, tenant: int, side_rows: Sequence[tuple[Any, ...]], ids: tuple[int, ...]
) -> None:
    sql = f"SELECT {', '.join(SIDE_COLUMNS)} FROM {builder.side_table} WHERE _m_tenant = ? AND _m_id = ANY (?)"
    stored = {
        (*row[:3], encode_text(row[3]), None if row[4] is None else encode_text(row[4]), row[5])
        for row in connection.fetch_all(sql, (tenant, ids))
    }
    new = set(side_rows)
    if removed := list(stored - new):
        sql = (
            f"DELETE FROM {builder.side_table} USING unnest(?::bigint[], ?::int[], ?::text[], ?::float8[])"
            " AS old (id, path, text, number)"
            " WHERE _m_tenant = ? AND _m_id = old.id AND _m_path = old.path"
            " AND _m_text IS NOT DISTINCT FROM old.text AND _m_number IS NOT DISTINCT FROM old.number"
        )
        columns = [tuple(_element(row[index]) for row in removed) for index in (2, 1, 4, 5)]
        connection.fetch_all(sql, (*columns, tenant))
    builder.copy_side_rows(connection, [row for row in side_rows if row not in stored])
