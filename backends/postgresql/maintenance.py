"""Statistics and visibility of the rows of a tenant after a large load."""

from __future__ import annotations

import contextlib

from backends.errors import StorageError
from backends.postgresql.connections import Connection
from backends.postgresql.dialect import PostgreSQLDialect

__all__ = ["analyze", "vacuum"]


def analyze(connection: Connection, dialect: PostgreSQLDialect, collection: str) -> None:
    """Collect statistics of the tables of a tenant, so that the planner knows the new rows."""
    for table in (dialect.table(collection), dialect.side_table):
        connection.execute_script(f"ANALYZE {table}")


def vacuum(connection: Connection, dialect: PostgreSQLDialect, collection: str) -> None:
    """Mark the pages of the tables of a tenant as visible to all, so that index-only scans need not read the tables.

    Call it after the commit, outside of a transaction. It ignores StorageError.
    """
    with contextlib.suppress(StorageError):
        for table in (dialect.table(collection), dialect.side_table):
            connection.execute_script(f"VACUUM {table}")
