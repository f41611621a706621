"""Tables and indexes of a SQLite store: create them, and widen them for new fields."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import StorageUnavailableError
from backends.records import Collection
from backends.sqlite.compiler import quote_identifier
from backends.sqlite.connection import WriteLock, connect, driver_errors

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = [
    "APPLICATION_ID",
    "MANY_INDEX",
    "SCHEMA",
    "has_our_schema",
    "indexes",
    "key_index",
    "prepare_database",
    "scalar_paths",
]

APPLICATION_ID = 0x43484B46
"""Marks the file as ours ("CHKF"), so that nobody's other database is filled with a roster by mistake."""


PAGE_BYTES = 8192
"""Bytes of a page: a record takes about a thousand, of which SQLite's own 4,096 would hold few and waste the rest."""


SCHEMA = {
    "_tenants": "(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL DEFAULT 0)",
    "_paths": "(id INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (collection, path))",
    "_many": "(id INTEGER, path INTEGER, value, PRIMARY KEY (id, path, value)) WITHOUT ROWID",
}


MANY_INDEX = 'CREATE INDEX IF NOT EXISTS "_many:value" ON _many (value, path)'


def prepare_database(path: Path, collections: Iterable[Collection], lock: WriteLock) -> None:
    """Create or widen the tables in the file; what is complete is left alone, so that no writer is waited for.

    Raises StoreFailed, or StoreBusy when the lock is needed and not free within a minute.
    """
    wanted = list(collections)
    with driver_errors(f"the database {path.name}"):
        if path.exists() and not _lacking(path, wanted):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.held(60):
            _create(path)
            if missing := _lacking(path, wanted):
                with contextlib.closing(connect(path, writes=True)) as connection:
                    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                    connection.execute("PRAGMA journal_mode = WAL")
                    _widen(connection, missing)


def _create(path: Path) -> None:
    """Make the file ours to read before SQLite makes it everybody's.

    A file that is there is not opened: closing it again would end every lock that this process holds on it (POSIX).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _lacking(path: Path, collections: Iterable[Collection]) -> dict[Collection, list[str]]:
    """For each collection what the file lacks: columns, or `_key` for its table. Raises StoreFailed if not ours."""
    with contextlib.closing(connect(path)) as connection:
        if not has_our_schema(connection):
            raise StorageUnavailableError(
                f"{path.name} is a SQLite database, but not one of Chalk Flask: name another file"
            )
        have = _columns(connection)
    bare = not have.keys() >= SCHEMA.keys()
    missing = {c: [p for p in ("_key", *scalar_paths(c)) if p not in have.get(c.name, ())] for c in collections}
    return {c: paths for c, paths in missing.items() if paths or bare}


def has_our_schema(connection: sqlite3.Connection) -> bool:
    """Whether the database is new or one that we made."""
    (marked,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(marked == APPLICATION_ID or tables == 0)


def _columns(connection: sqlite3.Connection) -> dict[str, set[str]]:
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {
        name: {row[1] for row in connection.execute(f"PRAGMA table_info({quote_identifier(name)})")}
        for (name,) in tables
    }


def _widen(connection: sqlite3.Connection, missing: Mapping[Collection, list[str]]) -> None:
    # sqlite-utils takes a tenth of a second to import, so a store that lacks nothing never does
    from sqlite_utils import Database

    database = Database(connection, execute_plugins=False)
    with database.atomic():
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for name, columns in SCHEMA.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
        database.execute(MANY_INDEX)
        for collection, paths in missing.items():
            _widen_table(database, collection, paths)


def _widen_table(database: Database, collection: Collection, paths: list[str]) -> None:
    table = database.table(collection.name)
    if "_key" in paths:
        types = {"_id": int, "_tenant": int, "_key": str, "_body": bytes}
        table.create(types, pk="_id", not_null={"_tenant", "_key", "_body"})
        database.execute(key_index(collection))
    for path in paths:
        if path != "_key":
            table.add_column(path, float if collection.field_for(path).kind == "number" else str)
    for sql in indexes(collection).values():
        database.execute(sql)


def scalar_paths(collection: Collection) -> tuple[str, ...]:
    """The fields that have a column of their own, in order."""
    return tuple(f.path for f in collection.fields if not (f.multi_valued or f.is_dynamic))


def key_index(collection: Collection) -> str:
    """The index that makes keys unique within a tenant, as SQL."""
    name = quote_identifier(f"{collection.name}:_key")
    return f"CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} (_tenant, _key)"


def indexes(collection: Collection) -> dict[str, str]:
    """The secondary indexes of a collection's table by name, as SQL; those of common values end with the key."""
    found = {}
    for field in collection.fields:
        if field.indexed and not (field.multi_valued or field.is_dynamic):
            name = quote_identifier(f"{collection.name}:{field.path}")
            # SQLite sorts an index fastest by a first column that is text and differs; few stores have many tenants
            columns = f"{quote_identifier(field.path)}, _tenant{', _key' if field.low_cardinality else ''}"
            found[name] = f"CREATE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} ({columns})"
    return found
