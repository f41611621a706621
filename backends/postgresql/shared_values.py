"""Values that the processes of a store share, in two tables of its schema."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from backends.base import SharedValues
from backends.postgresql.connections.connection import Connection
from backends.postgresql.text import encode_text

__all__ = ["VALUE_TABLES", "ExpiredValues", "PostgreSQLValues"]

VALUE_TABLES = {
    "_used_ids": (
        '(scope text COLLATE "C" NOT NULL, id bytea NOT NULL, expires float8 NOT NULL, PRIMARY KEY (scope, id))'
    ),
    "_entries": (
        '(scope text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, value text NOT NULL,'
        " expires float8 NOT NULL, PRIMARY KEY (scope, key))"
    ),
}
"""Tables by name. Deletes of expired rows read a whole table: it has few rows, and is cleaned once a minute."""

_CLEANUP_INTERVAL_SECONDS = 60.0
_KEPT_SECONDS = 7200
"""Time for which expired values stay, by the clock of the database. The clocks of machines may differ by this time."""


class PostgreSQLValues(SharedValues):
    """Transaction on the tables. `lock_key` returns the key of an advisory lock for a text."""

    def __init__(self, connection: Connection, lock_key: Callable[[str], int]) -> None:
        self._connection, self._lock_key = connection, lock_key

    def get(self, scope: str, key: str) -> Any:
        """Return the value of a key. Other transactions that get it wait, because this one may replace the value."""
        self._connection.fetch_all(
            "SELECT pg_advisory_xact_lock(?)::text", (self._lock_key(f"{len(scope)} {scope}{key}"),)
        )
        sql = "SELECT value FROM _entries WHERE scope = ? AND key = ?"
        rows = self._connection.fetch_all(sql, (encode_text(scope), encode_text(key)))
        return orjson.loads(rows[0][0]) if rows else None

    def put(self, scope: str, key: str, value: Any, expires: float) -> None:
        sql = (
            "INSERT INTO _entries VALUES (?, ?, ?, ?)"
            " ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
        )
        text = orjson.dumps(value).decode()
        self._connection.fetch_all(sql, (encode_text(scope), encode_text(key), text, float(expires)))

    def delete(self, scope: str, key: str) -> None:
        sql = "DELETE FROM _entries WHERE scope = ? AND key = ?"
        self._connection.fetch_all(sql, (encode_text(scope), encode_text(key)))

    def use(self, scope: str, used_id: bytes, expires: float, now: float) -> bool:
        sql = (
            "INSERT INTO _used_ids AS used VALUES (?, ?, ?) ON CONFLICT (scope, id)"
            " DO UPDATE SET expires = excluded.expires WHERE used.expires <= ? RETURNING 1"
        )
        return bool(self._connection.fetch_all(sql, (encode_text(scope), used_id, float(expires), float(now))))

    def count_used(self, scope: str) -> int:
        sql = "SELECT count(*) FROM _used_ids WHERE scope = ?"
        count: int = self._connection.fetch_all(sql, (encode_text(scope),))[0][0]
        return count

    def delete_expired_ids(self, scope: str, now: float) -> None:
        sql = "DELETE FROM _used_ids WHERE scope = ? AND expires <= ?"
        self._connection.fetch_all(sql, (encode_text(scope), float(now)))

    def delete_earliest_ids(self, scope: str) -> float:
        earliest: float = self._connection.fetch_all(
            "SELECT min(expires) FROM _used_ids WHERE scope = ?", (encode_text(scope),)
        )[0][0]
        self._connection.fetch_all(
            "DELETE FROM _used_ids WHERE scope = ? AND expires = ?", (encode_text(scope), earliest)
        )
        return earliest


class ExpiredValues:
    """Clean-up of values that expired two hours ago. Each process does it once a minute. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def delete(self, connection: Connection) -> None:
        """Delete these values if the last clean-up was a minute ago. The connection has no transaction."""
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _CLEANUP_INTERVAL_SECONDS
        for table in VALUE_TABLES:
            connection.fetch_all(
                f"DELETE FROM {table} WHERE expires < extract(epoch FROM clock_timestamp()) - {_KEPT_SECONDS}"
            )
