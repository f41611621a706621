"""Storage in a schema of a PostgreSQL database, for any number of processes on any number of machines.

Readers wait for no writer. Each tenant has one writer at a time, because a writer locks the row of its tenant.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import psycopg

from backends.base import Backend, Lease, SharedValues, Snapshot, Transaction
from backends.errors import StorageBusyError, StorageError, StorageUnavailableError
from backends.postgresql.connections import (
    LAG_SECONDS,
    CommitListener,
    Connection,
    ConnectionLostError,
    ConnectionPool,
    Location,
    channel_of,
    parse_url,
)
from backends.postgresql.dialect import PostgreSQLDialect
from backends.postgresql.lease import PostgreSQLLease
from backends.postgresql.schema import (
    SCHEMA_VERSION,
    add_tenant,
    is_store,
    missing_parts,
    partitioned_tables,
    prepare_schema,
    store_lock_key,
)
from backends.postgresql.shared_values import ExpiredValues, PostgreSQLValues
from backends.postgresql.snapshot import PathCache, PostgreSQLQuery, PostgreSQLSnapshot
from backends.postgresql.text import encode_text, identifier
from backends.postgresql.transaction import PostgreSQLTransaction, TenantRow
from backends.records import Collection
from backends.repair import rebuild_values
from backends.sql.query_cache import QueryCache
from backends.statement_watch import StatementWatch

__all__ = ["PostgreSQLBackend"]

_Result = TypeVar("_Result")

_AWAY_SECONDS = 10.0
"""Maximum time for which the begin of a read or write tries to connect, while no host of the URL can be used."""

_RETRY_INTERVAL_SECONDS = 0.2

_QUERIES_BEFORE_LISTENER = 10
"""Number of versions that a process queries before it starts the listener."""

_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
"""Begin of a write. With another isolation level, it would not see the commits for which it waited."""

_STATEMENT_LOCK_SECONDS = 60
"""Maximum time for which a statement of a write transaction waits for a lock that another program holds."""


class PostgreSQLBackend(Backend):
    """Backend with pools of connections for reads and writes."""

    parallel = True
    version_lag_seconds = LAG_SECONDS
    has_shared_values = True
    has_leases = True
    schema_version = SCHEMA_VERSION

    def __init__(self, location: Location, collections: Iterable[Collection]) -> None:
        self.collections = {collection.name: collection for collection in collections}
        self._location = location
        self._watch = StatementWatch()
        self._pool = ConnectionPool(location, self._watch)
        self._query_cache = QueryCache[PostgreSQLQuery]()
        self._paths = PathCache()
        self._partitioned = frozenset[str]()
        self._dialects: dict[int, PostgreSQLDialect] = {}
        self._lock_key = store_lock_key(location.schema)
        self._expired_values = ExpiredValues()
        self._listener = CommitListener(
            lambda: psycopg.connect(location.conninfo, autocommit=True), channel_of(location.schema)
        )
        self._queried_versions = 0
        self._leases: list[PostgreSQLLease] = []

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the schema; create it and its tables if they are missing.

        New columns get their values from the bodies of the records.
        """
        store = cls(parse_url(url), collections)
        try:
            store.store_id, extended = store._use_writer(
                lambda connection: prepare_schema(connection, store._location, store.collections.values())
            )
            store._partitioned = store._use_writer(
                lambda connection: partitioned_tables(connection, store._location.schema)
            )
            if extended:
                rebuild_values(store, extended)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return True if the schema contains a store.

        Raises StorageUnavailableError if it contains tables of another program, or if no host of the URL can be used.
        """
        location = parse_url(url)
        connection = Connection(location.conninfo, location.schema, StatementWatch())
        try:
            return is_store(connection, location.schema)
        finally:
            connection.close()

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        """Return a snapshot on a pooled connection. Its first statement, the tenant's row, takes the snapshot."""
        connection, (tenant_id, revision, partition) = self._begin(tenant)
        try:
            return PostgreSQLSnapshot(
                connection,
                self._dialect(partition),
                tenant,
                (tenant_id, revision),
                self.collections,
                self._finish_read,
                paths=self._paths,
                query_cache=self._query_cache,
                query_seconds=query_seconds,
            )
        except BaseException:
            self._pool.discard(connection)
            raise

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Lock the row of the tenant and return a transaction."""
        return self._write(tenant, wait, "pg_advisory_xact_lock_shared")

    def write_alone(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Wait for all writers of the store to end, keep others waiting, and return a transaction."""
        return self._write(tenant, wait, "pg_advisory_xact_lock")

    @contextmanager
    def share_values(self) -> Iterator[SharedValues]:
        """Return a transaction on the tables of shared values."""
        connection, _ = self._connect(self._pool.acquire_writer, self._begin_values)
        try:
            yield PostgreSQLValues(connection, lambda text: store_lock_key(f"{self._location.schema} {text}"))
            connection.execute_script("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        self._pool.release_writer(connection)

    def lease(self, task: str) -> Lease:
        """Return the lease of a task, which is a row with the time of its end. A thread renews it."""
        lease = PostgreSQLLease(
            lambda sql, params: self._use_writer(lambda connection: connection.fetch_all(sql, params)), task
        )
        self._leases.append(lease)
        return lease

    def tenants(self) -> list[str]:
        """Return the sorted names of all tenants for which a transaction was committed."""
        return self._use_writer(
            lambda connection: sorted(
                name for (name,) in connection.fetch_all("SELECT name FROM _tenants WHERE serial > 0")
            )
        )

    def version(self, tenant: str) -> object:
        """Return the version that the listener has in memory. If it has none, query the database.

        The listener starts at the tenth query, so a command that needs few versions opens no connection for it.
        """
        if (version := self._listener.version(tenant)) is not None:
            return version
        self._queried_versions += 1
        if self._queried_versions >= _QUERIES_BEFORE_LISTENER:
            self._listener.start()
        sql = "SELECT serial FROM _tenants WHERE name = ?"
        rows = self._use_writer(lambda connection: connection.fetch_all(sql, (encode_text(tenant),)), _AWAY_SECONDS)
        return rows[0][0] if rows else 0

    def watch_commits(self, on_commit: Callable[[], None]) -> None:
        """Start the listener, and call the function after each message of a commit."""
        self._listener.watch(on_commit)

    def watch_statements(self, seconds: float, on_slow: Callable[[str, float], None]) -> None:
        """Report slow statements."""
        self._watch.set(seconds, on_slow)

    def check(self) -> list[str]:
        """Return a message for each missing table, column and index, and for values without a record."""
        return self._use_writer(self._check)

    def close(self) -> None:
        """End the leases, and close all connections, including those of open snapshots."""
        for lease in self._leases:
            lease.release()
        self._listener.close()
        self._pool.close()

    def _check(self, connection: Connection) -> list[str]:
        declared = self.collections.values()
        if missing := missing_parts(connection, self._location.schema, declared):
            return [f"{part} is missing: restore a backup" for part in missing]
        problems = []
        for name in self.collections:
            sql = (
                "SELECT count(*) FROM _many JOIN _paths ON tenant = _m_tenant AND id = _m_path WHERE collection = ?"
                f" AND NOT EXISTS (SELECT FROM {identifier(name)}"
                " WHERE _tenant = _m_tenant AND _key = _m_key AND _id = _m_id)"
            )
            ((count,),) = connection.fetch_all(sql, (encode_text(name),))
            if count:
                problems.append(f"{count} values of {name} belong to no record")
        return problems

    def _dialect(self, partition: int) -> PostgreSQLDialect:
        """Return the dialect for the tenants of a partition."""
        dialect = self._dialects.get(partition)
        if dialect is None:
            dialect = self._dialects[partition] = PostgreSQLDialect(partition, self._partitioned)
        return dialect

    def _begin(self, tenant: str) -> tuple[Connection, tuple[int, int, int]]:
        """Return a connection with a snapshot, and id, revision and partition of the tenant."""
        sql = "SELECT id, revision, partition FROM _tenants WHERE name = ?"
        connection, rows = self._connect(
            self._pool.acquire_reader, lambda connection: connection.fetch_all(sql, (encode_text(tenant),))
        )
        return connection, rows[0] if rows else (-1, 0, -1)

    def _connect(
        self, acquire: Callable[[], Connection], use: Callable[[Connection], _Result], wait: float = math.inf
    ) -> tuple[Connection, _Result]:
        """Return a connection with the result of its first statements, which may run twice.

        If the server closed an idle connection, this closes all idle ones and runs the statements on a new one. If no
        host can be used, this tries again for `_AWAY_SECONDS` or `wait` seconds, whichever is less: a standby may be
        promoted. Raises ConnectionLostError.
        """
        end, is_first = time.monotonic() + min(wait, _AWAY_SECONDS), True
        while True:
            try:
                return self._try_connect(acquire, use)
            except ConnectionLostError:
                self._pool.close_idle()
                if not is_first and time.monotonic() >= end:
                    raise
            if not is_first:
                time.sleep(_RETRY_INTERVAL_SECONDS)
            is_first = False

    def _try_connect(
        self, acquire: Callable[[], Connection], use: Callable[[Connection], _Result]
    ) -> tuple[Connection, _Result]:
        connection = acquire()
        try:
            return connection, use(connection)
        except BaseException:
            self._pool.discard(connection)
            raise

    def _write(self, tenant: str, wait: float, lock: str) -> Transaction:
        try:
            connection, row = self._connect(
                self._pool.acquire_writer, lambda connection: self._lock_tenant(connection, tenant, wait, lock), wait
            )
        except ConnectionLostError as error:
            raise StorageBusyError(f"{error}; nothing was written: try again") from error
        return PostgreSQLTransaction(
            connection,
            self._dialect(row.partition),
            tenant,
            row,
            self.collections,
            self._finish_write,
            channel=channel_of(self._location.schema),
            on_commit=self._listener.add,
            was_committed=self._was_committed,
        )

    def _was_committed(self, transaction_id: str, tenant_id: int, serial: int) -> bool:
        """Return True if a transaction was committed whose connection was lost. Waits until the transaction has ended.

        A promoted standby may lack the transaction, and use its id for another one. The serial number of the tenant is
        then lower. Raises StorageUnavailableError if the outcome is unknown after `_AWAY_SECONDS`.
        """
        sql = "SELECT pg_xact_status(?::xid8), serial FROM _tenants WHERE id = ?"
        end = time.monotonic() + _AWAY_SECONDS
        while True:
            rows = self._use_writer(
                lambda connection: connection.fetch_all(sql, (transaction_id, tenant_id)), _AWAY_SECONDS
            )
            status, stored = rows[0] if rows else (None, 0)
            if status != "in progress":
                return bool(status == "committed" and stored >= serial)
            if time.monotonic() >= end:
                raise StorageUnavailableError("committing: the connection is lost, and the outcome is unknown")
            time.sleep(_RETRY_INTERVAL_SECONDS)

    def _lock_tenant(self, connection: Connection, tenant: str, wait: float, lock: str) -> TenantRow:
        is_known = connection.fetch_all("SELECT 1 FROM _tenants WHERE name = ?", (encode_text(tenant),))
        if not is_known:
            add_tenant(connection, tenant)
        milliseconds = max(int(wait * 1000), 1)  # 0 would mean no limit
        connection.execute_script(f"{_BEGIN_WRITE}; SET LOCAL lock_timeout = {milliseconds}")
        connection.fetch_all(f"SELECT {lock}(?)::text", (self._lock_key,))
        sql = "SELECT id, partition, revision, serial, last_id, last_path FROM _tenants WHERE name = ? FOR UPDATE"
        (values,) = connection.fetch_all(sql, (encode_text(tenant),))
        connection.execute_script(f"SET LOCAL lock_timeout = {_STATEMENT_LOCK_SECONDS * 1000}")
        return TenantRow(values)

    def _begin_values(self, connection: Connection) -> None:
        self._expired_values.delete(connection)
        connection.execute_script("BEGIN ISOLATION LEVEL READ COMMITTED")

    def _roll_back(self, connection: Connection) -> None:
        """End a transaction, and keep its connection if it is usable."""
        try:
            connection.execute_script("ROLLBACK")
        except StorageError:
            self._pool.discard(connection)
        else:
            self._pool.release_writer(connection)

    def _use_writer(self, use: Callable[[Connection], _Result], wait: float = 0.0) -> _Result:
        connection, result = self._connect(self._pool.acquire_writer, use, wait)
        self._pool.release_writer(connection)
        return result

    def _finish_read(self, connection: Connection, is_intact: bool) -> None:
        if is_intact:
            self._pool.release_reader(connection)
        else:
            self._pool.discard(connection)

    def _finish_write(self, connection: Connection, is_intact: bool) -> None:
        if is_intact:
            self._pool.release_writer(connection)
        else:
            self._pool.discard(connection)
