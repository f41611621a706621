"""PostgreSQL backend, opened by `postgresql://user@host/database`: for several app servers over one database.

Records go into one table per collection, which belongs to all tenants, in a schema of its own. `PostgreSQLBackend` is
the entry point. The package needs psycopg, the extra `postgresql`.
"""

try:
    import psycopg as _psycopg  # noqa: F401 - imported here for a message that says what to install
except ImportError as error:
    raise ImportError("psycopg is missing: install it with `pip install 'chalk-flask[postgresql]'`") from error

from backends.postgresql.backend import PostgreSQLBackend

__all__ = ["PostgreSQLBackend"]
