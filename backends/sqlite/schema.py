"""Tables and indexes of a SQLite store, created or extended for the declared collections."""

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
    "SIDE_TABLE_INDEX",
    "indexes",
    "is_empty_or_own",
    "key_index",
    "prepare_database",
    "scalar_paths",
]

_APPLICATION_ID = 0x43484B46
"""SQLite application id ("CHKF"). It protects databases of other programs from being used as a store."""


_PAGE_BYTES = 8192
"""Size of a database page. A record takes about 1,000 bytes, so SQLite's default of 4,096 would waste space."""


_SCHEMA = {
    "_tenants": "(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL DEFAULT 0)",
    "_paths": "(id INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (collection, path))",
    "_many": "(id INTEGER, path INTEGER, value, PRIMARY KEY (id, path, value)) WITHOUT ROWID",
}


_LOCK_TIMEOUT_SECONDS = 60

SIDE_TABLE_INDEX = 'CREATE INDEX IF NOT EXISTS "_many:value" ON _many (value, path)'


def prepare_database(path: Path, collections: Iterable[Collection], lock: WriteLock) -> None:
    """Create the file and its tables, or add missing tables and columns.

    A complete file needs no write lock, so it opens without waiting for a writer. Raises StorageUnavailableError.
    Raises StorageBusyError if the lock is needed and not free within 60 seconds.
    """
    declared = list(collections)
    with driver_errors(f"the database {path.name}"):
        if path.exists() and not _missing_columns(path, declared):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.hold(_LOCK_TIMEOUT_SECONDS):
            _create(path)
            if missing := _missing_columns(path, declared):
                with contextlib.closing(connect(path, writes=True)) as connection:
                    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                    connection.execute("PRAGMA journal_mode = WAL")
                    _add_missing(connection, missing)


def _create(path: Path) -> None:
    """Create the file with mode 0600 before SQLite creates it with the default mode.

    An existing file is not opened: closing it would release every POSIX lock that this process holds on it.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _missing_columns(path: Path, collections: Iterable[Collection]) -> dict[Collection, list[str]]:
    """Return the missing columns by collection; `_key` stands for the whole table.

    Raises StorageUnavailableError for the database of another program.
    """
    with contextlib.closing(connect(path)) as connection:
        if not is_empty_or_own(connection):
            raise StorageUnavailableError(f"{path.name} is a SQLite database of another program: name another file")
        present = _columns(connection)
    incomplete = not present.keys() >= _SCHEMA.keys()
    missing = {c: [p for p in ("_key", *scalar_paths(c)) if p not in present.get(c.name, ())] for c in collections}
    return {c: paths for c, paths in missing.items() if paths or incomplete}


def is_empty_or_own(connection: sqlite3.Connection) -> bool:
    """Return True if the database is empty or a store of this program."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(application_id == _APPLICATION_ID or tables == 0)


def _columns(connection: sqlite3.Connection) -> dict[str, set[str]]:
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {
        name: {row[1] for row in connection.execute(f"PRAGMA table_info({quote_identifier(name)})")}
        for (name,) in tables
    }


def _add_missing(connection: sqlite3.Connection, missing: Mapping[Collection, list[str]]) -> None:
    # The import takes 0.1 seconds, so only stores with missing tables or columns run it.
    from sqlite_utils import Database

    database = Database(connection, execute_plugins=False)
    with database.atomic():
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        for name, columns in _SCHEMA.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
        database.execute(SIDE_TABLE_INDEX)
        for collection, paths in missing.items():
            _extend_table(database, collection, paths)


def _extend_table(database: Database, collection: Collection, paths: list[str]) -> None:
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
    """Return the paths of the scalar fields, which have their own columns, in order."""
    return tuple(field.path for field in collection.fields if field.is_scalar)


def key_index(collection: Collection) -> str:
    """Return the SQL of the index that makes keys unique within a tenant."""
    name = quote_identifier(f"{collection.name}:_key")
    return f"CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} (_tenant, _key)"


def indexes(collection: Collection) -> dict[str, str]:
    """Return the SQL of the secondary indexes by name. An index of a low-cardinality field ends with the key."""
    statements = {}
    for field in collection.fields:
        if field.indexed and field.is_scalar:
            name = quote_identifier(f"{collection.name}:{field.path}")
            # SQLite builds an index fastest if its first column is text with many values. `_tenant` has few values.
            columns = f"{quote_identifier(field.path)}, _tenant{', _key' if field.low_cardinality else ''}"
            statements[name] = f"CREATE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} ({columns})"
    return statements
