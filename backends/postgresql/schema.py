"""Tables of a store in PostgreSQL, their description in the store, and its version.

A store is a schema. `_store` has its version, its id and the parts that it must contain; `_tenants` has a row for each
tenant, which is also its write lock. Each collection has a table. Tables of the roster and the side table `_many` are
partitioned by tenant, so that maintenance works on parts of them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator

import orjson

from backends.errors import DamagedStoreError, NewerStoreError, StorageUnavailableError
from backends.postgresql.connections import Connection, Location
from backends.postgresql.lease import LEASE_TABLE
from backends.postgresql.shared_values import VALUE_TABLES
from backends.postgresql.text import encode_text, identifier, partition_name
from backends.records import Collection

__all__ = [
    "SCHEMA_VERSION",
    "add_tenant",
    "is_store",
    "missing_parts",
    "partitioned_tables",
    "prepare_schema",
    "scalar_paths",
    "store_lock_key",
]

SCHEMA_VERSION = 1
"""Version of the tables of this module. A program rejects stores of later versions."""

_MIN_SERVER_VERSION = 150000

_LOCK_SECONDS = 60
"""Time for which the creation of tables waits for another process that does the same."""

_INTERNAL_TABLES = {
    "_store": "(name text PRIMARY KEY, value text NOT NULL)",
    "_tenants": (
        '(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE,'
        " partition int NOT NULL DEFAULT -1,"
        " revision bigint NOT NULL DEFAULT 0, serial bigint NOT NULL DEFAULT 0, last_id bigint NOT NULL DEFAULT 0,"
        " last_path int NOT NULL DEFAULT 0) WITH (fillfactor = 50)"
    ),
    "_paths": (
        '(tenant int NOT NULL, id int NOT NULL, collection text COLLATE "C" NOT NULL,'
        ' path text COLLATE "C" NOT NULL, PRIMARY KEY (tenant, id))'
    ),
    **VALUE_TABLES,
    **LEASE_TABLE,
}
# A path of a dynamic field may be longer than an index entry, so the index has its hash.
_PATHS_INDEX = 'CREATE INDEX "_paths:path" ON _paths (tenant, collection, md5(path))'
_SIDE_TABLE = (
    '(_m_tenant int NOT NULL, _m_path int NOT NULL, _m_id bigint NOT NULL, _m_key text COLLATE "C" NOT NULL,'
    ' _m_text text COLLATE "C", _m_number float8)'
)
_SIDE_INDEXES = {
    "_many:text": "(_m_tenant, _m_path, _m_text, _m_key) INCLUDE (_m_id) WHERE _m_text IS NOT NULL",
    "_many:number": "(_m_tenant, _m_path, _m_number, _m_key) INCLUDE (_m_id) WHERE _m_number IS NOT NULL",
    "_many:id": "(_m_tenant, _m_id)",
}
_RECORD_COLUMNS = {
    "_tenant": "int NOT NULL",
    "_id": "bigint NOT NULL",
    "_key": 'text COLLATE "C" NOT NULL',
    "_folded": 'text COLLATE "C"',
    "_body": "bytea NOT NULL",
}


def scalar_paths(collection: Collection) -> tuple[str, ...]:
    """Return the paths of the scalar fields, which have their own columns, in order."""
    return tuple(field.path for field in collection.fields if field.is_scalar)


def store_lock_key(schema: str) -> int:
    """Return the key of the advisory lock of a store. Writers share the lock; `write_alone` takes it exclusively."""
    return int.from_bytes(hashlib.sha256(b"chalk-flask " + schema.encode()).digest()[:8], "big", signed=True)


def is_store(connection: Connection, schema: str) -> bool:
    """Return True if the schema contains a store. Raises StorageUnavailableError for tables of another program."""
    tables = _tables(connection, schema)
    if tables:
        _check_owner(connection, schema, tables)
    return bool(tables)


def _check_owner(connection: Connection, schema: str, tables: set[str]) -> None:
    """Raise StorageUnavailableError if the role may not use the schema, or if its tables are of another program."""
    # Without this right, PostgreSQL reports that the tables do not exist.
    ((is_permitted,),) = connection.fetch_all("SELECT has_schema_privilege(?, 'USAGE')", (schema,))
    if not is_permitted:
        raise StorageUnavailableError(
            f"the role may not use the schema {schema}: run `GRANT USAGE ON SCHEMA {schema}` for it, with the rights on"
            " its tables"
        )
    if "_store" not in tables or not _has_description(connection, schema):
        raise StorageUnavailableError(
            f"the schema {schema} contains tables of another program: name another schema in the URL"
        ) from ValueError("the schema has no table _store with id and version of a store")


def _has_description(connection: Connection, schema: str) -> bool:
    sql = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0"
    columns = {name for (name,) in connection.fetch_all(sql, (f"{schema}._store",))}
    if not columns >= {"name", "value"}:
        return False
    description = _description(connection)
    return "id" in description and description.get("version", "").isdecimal()


def prepare_schema(
    connection: Connection, location: Location, collections: Iterable[Collection]
) -> tuple[str, set[str]]:
    """Create the schema, or add missing tables, columns and indexes to it. One process at a time does this.

    Returns the id of the store, and the names of the collections whose existing tables got new columns. A complete
    store is only read. Raises StorageUnavailableError, NewerStoreError, and DamagedStoreError if a part that the store
    had is missing.
    """
    declared = list(collections)
    _check_server(connection)
    if not is_store(connection, location.schema) or _additions(connection, location.schema, declared):
        connection.execute_script(
            f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {_LOCK_SECONDS * 1000}"
        )
        try:
            connection.fetch_all(
                "SELECT pg_advisory_xact_lock(?)::text", (store_lock_key(f"create {location.schema}"),)
            )
            extended = _create_parts(connection, location, declared)
            connection.execute_script("COMMIT")
        except BaseException:
            connection.execute_script("ROLLBACK")
            raise
    else:
        extended = set()
    _check_version(connection)
    if missing := missing_parts(connection, location.schema, declared):
        raise DamagedStoreError(
            f"the schema {location.schema} is damaged: {', '.join(missing)} is missing; restore a backup, or run"
            " `chalk-flask check --repair`"
        )
    return str(_description(connection)["id"]), extended


def missing_parts(connection: Connection, schema: str, collections: Iterable[Collection]) -> list[str]:
    """Return the tables, columns and indexes that the store once had and that are missing, in order."""
    described = set(orjson.loads(_description(connection).get("parts", "[]")))
    return sorted((described & _declared(collections)) - _present(connection, schema))


def partitioned_tables(connection: Connection, schema: str) -> frozenset[str]:
    """Return the names of the partitioned tables."""
    sql = (
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ? AND c.relkind = 'p'"
    )
    return frozenset(name for (name,) in connection.fetch_all(sql, (schema,)))


def add_tenant(connection: Connection, tenant: str) -> None:
    """Store a tenant, unless it exists, and the number of the partition that PostgreSQL chooses for its id."""
    connection.fetch_all("INSERT INTO _tenants (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (encode_text(tenant),))
    partitions = int(_description(connection).get("partitions", 1))
    if partitions > 1:
        sql = (
            "UPDATE _tenants SET partition = number FROM generate_series(0, ?::int - 1) AS number"
            " WHERE name = ? AND partition < 0 AND satisfies_hash_partition('_many'::regclass, ?, number, id)"
        )
        connection.fetch_all(sql, (partitions, encode_text(tenant), partitions))


def _check_server(connection: Connection) -> None:
    if connection.server_version < _MIN_SERVER_VERSION:
        raise StorageUnavailableError("the server is older than PostgreSQL 15: use a later one")
    if (encoding := connection.parameter("server_encoding")) != "UTF8":
        raise StorageUnavailableError(
            f"the database has the encoding {encoding}: create one with `createdb --encoding=UTF8 --template=template0`"
        )


def _check_version(connection: Connection) -> None:
    version = int(_description(connection).get("version", 0))
    if version > SCHEMA_VERSION:
        raise NewerStoreError(
            f"the store has schema version {version}, but this program supports versions up to {SCHEMA_VERSION}: use"
            " the version of the program that wrote the store, or a later one"
        )


def _description(connection: Connection) -> dict[str, str]:
    return dict(connection.fetch_all("SELECT name, value FROM _store"))


def _tables(connection: Connection, schema: str) -> set[str]:
    sql = (
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ? AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"
    )
    return {name for (name,) in connection.fetch_all(sql, (schema,))}


def _present(connection: Connection, schema: str) -> set[str]:
    """Return the tables, columns and indexes of the schema, as `table`, `table.column` and `index`."""
    sql = (
        "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " AND c.relkind IN ('r', 'p')"
        " WHERE n.nspname = ? AND c.relkind IN ('r', 'p', 'i', 'I') AND NOT c.relispartition"
    )
    rows = connection.fetch_all(sql, (schema,))
    return {name for name, _ in rows} | {f"{name}.{column}" for name, column in rows if column}


def _additions(connection: Connection, schema: str, collections: Iterable[Collection]) -> set[str]:
    """Return the declared parts that the store never had."""
    _check_version(connection)
    described = set(orjson.loads(_description(connection).get("parts", "[]")))
    return _declared(collections) - described - _present(connection, schema)


def _declared(collections: Iterable[Collection]) -> set[str]:
    names = {*_INTERNAL_TABLES, "_many", *_SIDE_INDEXES, "_paths:path"}
    for collection in collections:
        names.add(_bare(collection.name))
        names |= {f"{_bare(collection.name)}.{_bare(path)}" for path in (*_RECORD_COLUMNS, *scalar_paths(collection))}
        names |= {_bare(index) for index, _ in _indexes(collection)}
    return names


def _bare(name: str) -> str:
    return identifier(name)[1:-1]


def _indexes(collection: Collection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and columns of the indexes. Each one ends with the key, so that pages need no sort."""
    for field in collection.fields:
        if field.indexed and field.is_scalar:
            yield f"{collection.name}:{field.path}", (field.path,)
    for paths in collection.combined_indexes:
        yield f"{collection.name}:{'+'.join(paths)}", paths


def _create_parts(connection: Connection, location: Location, collections: list[Collection]) -> set[str]:
    if not _tables(connection, location.schema):
        _create_store(connection, location)
    _check_version(connection)
    partitions = int(_description(connection).get("partitions", 1))
    present = _present(connection, location.schema)
    _create_table(connection, "_many", _SIDE_TABLE, "_m_tenant", partitions if "_many" not in present else 0)
    for name, definition in _SIDE_INDEXES.items():
        connection.execute_script(f"CREATE INDEX IF NOT EXISTS {identifier(name)} ON _many {definition}")
    extended = {one.name for one in collections if _create_collection(connection, one, partitions, present)}
    description = set(orjson.loads(_description(connection).get("parts", "[]"))) | _declared(collections)
    sql = "INSERT INTO _store VALUES ('parts', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    connection.fetch_all(sql, (orjson.dumps(sorted(description)).decode(),))
    return extended


def _create_store(connection: Connection, location: Location) -> None:
    connection.execute_script(f"CREATE SCHEMA IF NOT EXISTS {identifier(location.schema)}")
    for name, definition in _INTERNAL_TABLES.items():
        connection.execute_script(f"CREATE TABLE {name} {definition}")
    connection.execute_script(_PATHS_INDEX)
    values = {"id": secrets.token_hex(16), "version": SCHEMA_VERSION, "partitions": location.partitions}
    for name, value in values.items():
        connection.fetch_all("INSERT INTO _store VALUES (?, ?)", (name, str(value)))


def _create_collection(connection: Connection, collection: Collection, partitions: int, present: set[str]) -> bool:
    """Create what is missing of a collection, and return True if its table existed and got new columns."""
    name, table = _bare(collection.name), identifier(collection.name)
    is_new = name not in present
    if is_new:
        columns = ", ".join(f"{column} {kind}" for column, kind in _RECORD_COLUMNS.items())
        definition = f"({columns}, PRIMARY KEY (_tenant, _key) INCLUDE (_id))"
        _create_table(
            connection, collection.name, definition, "_tenant", partitions if collection.bumps_revision else 1
        )
    added = [path for path in scalar_paths(collection) if f"{name}.{_bare(path)}" not in present]
    for path in added:
        kind = "float8" if collection.field_for(path).kind == "number" else 'text COLLATE "C"'
        connection.execute_script(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {identifier(path)} {kind}")
    for index, paths in _indexes(collection):
        columns = ", ".join(["_tenant", *map(identifier, paths), "_key"])
        connection.execute_script(f"CREATE INDEX IF NOT EXISTS {identifier(index)} ON {table} ({columns})")
    return bool(added) and not is_new


def _create_table(connection: Connection, name: str, definition: str, tenant: str, partitions: int) -> None:
    """Create a table with this number of partitions by tenant. Does nothing if the number is 0."""
    table = identifier(name)
    if partitions == 1:
        connection.execute_script(f"CREATE TABLE {table} {definition}")
    elif partitions:
        connection.execute_script(f"CREATE TABLE {table} {definition} PARTITION BY HASH ({tenant})")
        for number in range(partitions):
            part = identifier(partition_name(name, number))
            values = f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
            connection.execute_script(f"CREATE TABLE {part} PARTITION OF {table} {values}")
