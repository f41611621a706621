"""Schema of a SQLite store: its tables, columns and indexes, their description in the store, and its version.

A store describes itself: `PRAGMA user_version` is its schema version, and the table `_store` has its id and the parts
that it must contain. A described part that is missing is damage. A declared part that is not described is new. Stores
without a version come from earlier versions of the program; their first write describes them.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Collection as Items
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from backends.errors import DamagedStoreError, NewerStoreError, StorageUnavailableError
from backends.files.private_files import create_private_file, make_folder
from backends.records import Collection
from backends.sql.dialect import quote_identifier
from backends.sqlite.connection import WriteLock, connect, driver_errors

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = [
    "SCHEMA_VERSION",
    "SIDE_TABLE_INDEX",
    "DatabaseSchema",
    "Part",
    "declared_parts",
    "describe",
    "escaped_rows",
    "indexes",
    "key_index",
    "prepare_database",
    "read_schema",
    "restore_parts",
    "scalar_paths",
]

SCHEMA_VERSION = 1
"""Version of the tables of this module. A program rejects stores of later versions."""

_APPLICATION_ID = 0x43484B46
"""SQLite application id ("CHKF"). It protects databases of other programs from being used as a store."""

_PAGE_BYTES = 8192
"""Size of a database page. A record takes about 1,000 bytes, so SQLite's default of 4,096 would waste space."""

_DESCRIPTION = "_store"
"""Table with the store id and the parts of the store."""

_SCHEMA = {
    "_tenants": "(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL DEFAULT 0)",
    "_paths": "(id INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (collection, path))",
    "_many": "(id INTEGER, path INTEGER, value, PRIMARY KEY (id, path, value)) WITHOUT ROWID",
}
_DESCRIPTION_COLUMNS = "(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_RECORD_COLUMNS = ("_id", "_tenant", "_key", "_body")

_REBUILT_TABLES = frozenset({"_paths", "_many", _DESCRIPTION})
"""Tables whose content follows from the records."""

_LOCK_TIMEOUT_SECONDS = 60

_HAS_ESCAPES = "CAST(_body AS TEXT) GLOB '*\\[^/]*'"
"""Condition for a body with a JSON escape other than `\\/`."""

SIDE_TABLE_INDEX = 'CREATE INDEX IF NOT EXISTS "_many:value" ON _many (value, path)'


class Part(NamedTuple):
    """Table, column or index. `name` is empty for a table."""

    kind: str
    table: str
    name: str = ""

    def __str__(self) -> str:
        return f"the {self.kind} {self.name or self.table}" + (f" of {self.table}" if self.name else "")

    @property
    def holds_records(self) -> bool:
        """True if records are lost with this part."""
        if self.kind == "table":
            return self.table not in _REBUILT_TABLES
        return self.kind == "column" and self.name in _RECORD_COLUMNS


@dataclass(frozen=True, slots=True)
class DatabaseSchema:
    """Schema of an open database file.

    `described` are the parts that the store must contain, `store_id` its id; both are empty in stores without version.
    """

    is_own: bool
    version: int
    store_id: str
    described: frozenset[Part]
    present: frozenset[Part]

    def damage(self, declared: frozenset[Part]) -> list[Part]:
        """Return the missing parts that the store once had, in order."""
        if not self.present:
            return []
        required = _internal_parts(with_description=self.version > 0)
        return sorted((required | (self.described & declared)) - self.present)

    def additions(self, declared: frozenset[Part]) -> list[Part]:
        """Return the missing parts that the store never had, in order."""
        return sorted((declared | _internal_parts(with_description=False)) - self.present - self.described)

    def is_described(self, declared: frozenset[Part]) -> bool:
        """Return True if the description is complete."""
        return self.version == SCHEMA_VERSION and self.described >= declared


def prepare_database(path: Path, collections: Iterable[Collection], lock: WriteLock) -> tuple[DatabaseSchema, set[str]]:
    """Create the file and its tables, or add new tables, columns and indexes.

    Returns the schema and the names of the tables that existed and got new columns. A complete file needs no write
    lock, so it opens without waiting for a writer. Raises StorageUnavailableError, and DamagedStoreError if a described
    part is missing. Raises StorageBusyError if the lock is needed and not free within 60 seconds.
    """
    declared = list(collections)
    parts = declared_parts(declared)
    with driver_errors(f"the database {path.name}"):
        if path.exists():
            schema = _checked_schema(path, parts)
            if not schema.additions(parts):
                return schema, set()
        make_folder(path.parent, 0o777)
        with lock.hold(_LOCK_TIMEOUT_SECONDS):
            if not path.exists():
                _create(path, declared)
            additions = _checked_schema(path, parts).additions(parts)
            with contextlib.closing(connect(path, writes=True)) as connection:
                if additions:
                    connection.execute("PRAGMA journal_mode = WAL")
                    _add_parts(connection, additions, declared)
                return read_schema(connection), _extended_tables(additions)


def restore_parts(path: Path, collections: Iterable[Collection], lock: WriteLock) -> list[Part]:
    """Create the described parts that are missing, and return them. Their content must be rebuilt.

    Raises DamagedStoreError if records are lost with a missing part.
    """
    declared = list(collections)
    with driver_errors(f"the database {path.name}"), lock.hold(_LOCK_TIMEOUT_SECONDS):
        _check_file(path)
        with contextlib.closing(connect(path, writes=True)) as connection:
            schema = read_schema(connection)
            _check_origin(path, schema)
            missing = schema.damage(declared_parts(declared))
            if lost := [part for part in missing if part.holds_records]:
                raise DamagedStoreError(
                    f"{path.name} cannot be repaired: {_parts_text(lost)} is missing, and records with it;"
                    " restore a backup"
                )
            if Part("table", "_paths") in missing and Part("table", "_many") in schema.present:
                connection.execute("DELETE FROM _many")  # its rows refer to paths by number
            if missing:
                _add_parts(connection, missing, declared)
    return missing


def read_schema(connection: sqlite3.Connection) -> DatabaseSchema:
    """Return the schema of an open database. Takes about a millisecond."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    rows = connection.execute(
        "SELECT s.type, s.tbl_name, s.name, c.name FROM sqlite_schema AS s"
        " LEFT JOIN pragma_table_info(s.name) AS c ON s.type = 'table' WHERE s.type IN ('table', 'index')"
    ).fetchall()
    present = {Part("index", table, name) for kind, table, name, _ in rows if kind == "index"}
    present |= {Part("table", name) for kind, _, name, _ in rows if kind == "table"}
    present |= {Part("column", name, column) for kind, _, name, column in rows if kind == "table"}
    store_id, described = _read_description(connection) if Part("table", _DESCRIPTION) in present else ("", frozenset())
    return DatabaseSchema(
        application_id == _APPLICATION_ID or not rows, version, store_id, described, frozenset(present)
    )


def describe(connection: sqlite3.Connection, collections: Iterable[Collection]) -> None:
    """Store the schema version, an id if there is none, and the declared parts. The caller has a transaction open."""
    schema = read_schema(connection)
    described = schema.described | (declared_parts(collections) & schema.present)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_DESCRIPTION} {_DESCRIPTION_COLUMNS}")
    rows = [
        ("id", schema.store_id or secrets.token_hex(16)),
        ("parts", orjson.dumps([[*part] for part in sorted(described)]).decode()),
    ]
    connection.executemany(f"REPLACE INTO {_DESCRIPTION} (name, value) VALUES (?, ?)", rows)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _read_description(connection: sqlite3.Connection) -> tuple[str, frozenset[Part]]:
    rows = dict(connection.execute(f"SELECT name, value FROM {_DESCRIPTION}").fetchall())
    try:
        parts = frozenset(Part(*map(str, part)) for part in orjson.loads(rows.get("parts", "[]")))
    except (ValueError, TypeError) as error:
        raise DamagedStoreError(
            f"the description of the store in the table {_DESCRIPTION} is unreadable: restore a backup"
        ) from error
    return str(rows.get("id", "")), parts


def _checked_schema(path: Path, parts: frozenset[Part]) -> DatabaseSchema:
    """Return the schema of a file that this program can use. Raises StorageUnavailableError."""
    _check_file(path)
    with contextlib.closing(connect(path)) as connection:
        schema = read_schema(connection)
    _check_origin(path, schema)
    if damage := schema.damage(parts):
        raise DamagedStoreError(
            f"{path.name} is damaged: {_parts_text(damage)} is missing; stop the service, make a copy of the file, and"
            " run `chalk-flask check --repair`"
        )
    return schema


def _check_file(path: Path) -> None:
    """Raise DamagedStoreError for a folder or an empty file. SQLite would take an empty file for a new database."""
    if path.is_dir():
        raise DamagedStoreError(f"{path} is a folder, not a database file: name another file")
    if path.stat().st_size == 0:
        raise DamagedStoreError(
            f"{path} is an empty file, not a store: restore a backup, or delete the file to create a new store"
        )


def _check_origin(path: Path, schema: DatabaseSchema) -> None:
    """Raise StorageUnavailableError for the database of another program or of a later version."""
    if not schema.is_own:
        raise StorageUnavailableError(f"{path.name} is a SQLite database of another program: name another file")
    if schema.version > SCHEMA_VERSION:
        raise NewerStoreError(
            f"{path.name} has schema version {schema.version}, but this program supports versions up to"
            f" {SCHEMA_VERSION}: use the version of the program that wrote the store, or a later one"
        )


def _create(path: Path, collections: Iterable[Collection]) -> None:
    """Create a complete file with mode 0600 in one step, so that a killed process leaves no incomplete store."""
    part = path.with_name(f".{path.name}.new")
    for leftover in (part, part.with_name(part.name + "-wal"), part.with_name(part.name + "-shm")):
        leftover.unlink(missing_ok=True)
    create_private_file(part)
    declared = list(collections)
    with contextlib.closing(connect(part, writes=True)) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        _add_parts(connection, sorted(declared_parts(declared) | _internal_parts(with_description=True)), declared)
    part.replace(path)


def _add_parts(connection: sqlite3.Connection, parts: Items[Part], collections: Iterable[Collection]) -> None:
    """Create the parts in one transaction, and describe them."""
    # The import takes 0.1 seconds, so only stores with missing parts run it.
    from sqlite_utils import Database

    declared = list(collections)
    database = Database(connection, execute_plugins=False)
    with database.atomic():
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        for name, columns in _SCHEMA.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
        database.execute(SIDE_TABLE_INDEX)
        for collection in declared:
            if missing := [part for part in parts if part.table == collection.name]:
                _extend_table(database, collection, missing)
        describe(connection, declared)


def _extend_table(database: Database, collection: Collection, parts: Items[Part]) -> None:
    table = database.table(collection.name)
    if Part("table", collection.name) in parts:
        types = {"_id": int, "_tenant": int, "_key": str, "_body": bytes}
        table.create(types, pk="_id", not_null={"_tenant", "_key", "_body"})
    for part in parts:
        if part.kind == "column" and part.name not in _RECORD_COLUMNS:
            table.add_column(part.name, float if collection.field_for(part.name).kind == "number" else str)
    for sql in (key_index(collection), *_escapes_index(collection), *indexes(collection).values()):
        database.execute(sql)


def declared_parts(collections: Iterable[Collection]) -> frozenset[Part]:
    """Return the parts of the collections."""
    parts: set[Part] = set()
    for collection in collections:
        name = collection.name
        parts.add(Part("table", name))
        parts.update(Part("column", name, column) for column in (*_RECORD_COLUMNS, *scalar_paths(collection)))
        parts.add(Part("index", name, f"{name}:_key"))
        if collection.tracks_escapes:
            parts.add(Part("index", name, f"{name}:_escapes"))
        parts.update(Part("index", name, index) for index in _indexed_columns(collection))
    return frozenset(parts)


def _internal_parts(*, with_description: bool) -> frozenset[Part]:
    names = [*_SCHEMA, *([_DESCRIPTION] if with_description else [])]
    return frozenset({Part("index", "_many", "_many:value"), *(Part("table", name) for name in names)})


def _extended_tables(additions: Items[Part]) -> set[str]:
    new_tables = {part.table for part in additions if part.kind == "table"}
    return {part.table for part in additions if part.kind == "column"} - new_tables


def _parts_text(parts: Items[Part]) -> str:
    """Return the parts as text. Columns and indexes of a missing table are not listed."""
    tables = {part.table for part in parts if part.kind == "table"}
    return ", ".join(str(part) for part in parts if part.kind == "table" or part.table not in tables)


def scalar_paths(collection: Collection) -> tuple[str, ...]:
    """Return the paths of the scalar fields, which have their own columns, in order."""
    return tuple(field.path for field in collection.fields if field.is_scalar)


def _indexed_columns(collection: Collection) -> dict[str, list[str]]:
    """Return the columns of the secondary indexes by name.

    SQLite builds an index fastest if its first column is text with many values. `_tenant` has few values.
    """
    columns = {
        f"{collection.name}:{field.path}": [field.path, "_tenant", *(["_key"] if field.low_cardinality else [])]
        for field in collection.fields
        if field.indexed and field.is_scalar
    }
    for paths in collection.combined_indexes:
        columns[f"{collection.name}:{'+'.join(paths)}"] = [*paths, "_tenant", "_key"]
    return columns


def key_index(collection: Collection) -> str:
    """Return the SQL of the index that makes keys unique within a tenant."""
    name = quote_identifier(f"{collection.name}:_key")
    return f"CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} (_tenant, _key)"


def _escapes_index(collection: Collection) -> list[str]:
    """Return the SQL of the index of the few records with escapes. It costs a new record a third of a microsecond.

    SQLite keeps it up to date even if a version of the program writes that does not know it.
    """
    if not collection.tracks_escapes:
        return []
    name, table = quote_identifier(f"{collection.name}:_escapes"), quote_identifier(collection.name)
    return [f"CREATE INDEX IF NOT EXISTS {name} ON {table} (_tenant) WHERE {_HAS_ESCAPES}"]


def escaped_rows(collection: str) -> str:
    """Return the SQL that selects the row ids of a tenant's records with escapes. Its parameters: tenant and limit."""
    name, table = quote_identifier(f"{collection}:_escapes"), quote_identifier(collection)
    return f"SELECT _id FROM {table} INDEXED BY {name} WHERE _tenant = ? AND {_HAS_ESCAPES} LIMIT ?"


def indexes(collection: Collection) -> dict[str, str]:
    """Return the SQL of the secondary indexes by name. An index of a low-cardinality field ends with the key."""
    statements = {}
    for index, paths in _indexed_columns(collection).items():
        name, columns = quote_identifier(index), ", ".join(map(quote_identifier, paths))
        statements[name] = f"CREATE INDEX IF NOT EXISTS {name} ON {quote_identifier(collection.name)} ({columns})"
    return statements
