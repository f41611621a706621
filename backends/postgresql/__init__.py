"""PostgreSQL backend, opened by `postgresql://user@host/database`. Processes on several machines can share a store.

A store is a schema of the database, with one table per collection for the records of all tenants. `PostgreSQLBackend`
is the entry point. The package needs psycopg, which the extra `postgresql` installs.
"""

try:
    import psycopg as _psycopg  # noqa: F401 - imported here for a message that says what to install
except ImportError as error:
    raise ImportError("psycopg is missing: install it with `pip install 'chalk-flask[postgresql]'`") from error

from backends.postgresql.backend import PostgreSQLBackend

__all__ = ["PostgreSQLBackend"]
