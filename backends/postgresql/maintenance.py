"""Statistics and visibility of the rows of a tenant after a large load."""

from __future__ import annotations

import contextlib

from backends.errors import StorageError
from backends.postgresql.connections import Connection
from backends.postgresql.text import identifier

__all__ = ["analyze", "vacuum"]


def analyze(connection: Connection, tenant: int, collection: str) -> None:
    """Collect statistics of the tables of a tenant, so that the planner knows the new rows."""
    for table in _tables(connection, tenant, collection):
        connection.execute_script(f"ANALYZE {table}")


def vacuum(connection: Connection, tenant: int, collection: str) -> None:
    """Mark the pages of the tables of a tenant as visible to all, so that indexes suffice. Errors are ignored.

    It runs after the commit, outside of a transaction.
    """
    with contextlib.suppress(StorageError):
        for table in _tables(connection, tenant, collection):
            connection.execute_script(f"VACUUM {table}")


def _tables(connection: Connection, tenant: int, collection: str) -> list[str]:
    """Return the tables or partitions with rows of the tenant."""
    tables = []
    for table, column in ((identifier(collection), "_tenant"), ("_many", "_m_tenant")):
        sql = f"SELECT tableoid::regclass::text FROM {table} WHERE {column} = ? LIMIT 1"
        tables += [name for (name,) in connection.fetch_all(sql, (tenant,))]
    return tables
