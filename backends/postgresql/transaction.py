"""Write transactions of a PostgreSQL store.

The row of the tenant is locked, so no other transaction changes what this one reads. New records are copied in binary
form; of stored ones only the columns that differ are updated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from backends.base import Transaction
from backends.batching import batched, batched_by_size
from backends.errors import StorageBusyError, StorageError, StorageUnavailableError
from backends.postgresql.connections import Connection, ConnectionLostError, driver_errors, payload_of
from backends.postgresql.dialect import PostgreSQLDialect
from backends.postgresql.maintenance import analyze, vacuum
from backends.postgresql.rows import RowBuilder, Rows
from backends.postgresql.snapshot import PostgreSQLSnapshot
from backends.postgresql.text import encode_text
from backends.postgresql.updates import update_rows
from backends.records import Collection, Record
from backends.sql.dialect import Fragment
from backends.validation import check_record, get_collection

__all__ = ["PostgreSQLTransaction", "TenantRow"]

_PUT_BATCH_SIZE, _MAX_PUT_BATCH_BYTES = 2000, 4 << 20
_DELETE_BATCH_SIZE = 1000

_MIN_LARGE_LOAD_RECORDS = 5_000
"""Number of new records in a collection from which a commit updates statistics and visibility map of its tables."""


class TenantRow:
    """Row of the locked tenant: its numbers, which the commit stores."""

    __slots__ = ("id", "last_id", "last_path", "partition", "revision", "serial")

    def __init__(self, values: tuple[int, int, int, int, int, int]) -> None:
        self.id, self.partition, self.revision, self.serial, self.last_id, self.last_path = values


class PostgreSQLTransaction(PostgreSQLSnapshot, Transaction):
    """Write transaction on its own connection.

    `on_close(connection, is_intact)` takes the connection back, which has no open transaction if it is intact. A commit
    notifies other processes on `channel`; this one calls `on_commit` with the tenant and its serial number. If the
    connection is lost during the COMMIT, `was_committed(transaction_id, tenant_id, serial)` finds its outcome.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: PostgreSQLDialect,
        tenant: str,
        row: TenantRow,
        collections: Mapping[str, Collection],
        on_close: Callable[[Connection, bool], None],
        *,
        channel: str,
        on_commit: Callable[[str, int], None],
        was_committed: Callable[[str, int, int], bool],
    ) -> None:
        super().__init__(connection, dialect, tenant, (row.id, row.revision), collections, on_close)
        self._tenant_name, self._channel, self._on_commit = tenant, channel, on_commit
        self._was_committed = was_committed
        self._row = row
        self._path_ids: dict[tuple[str, str], int] = {}
        self._written: set[str] = set()
        self._new_records: dict[str, int] = {}

    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records in batches."""
        owner = get_collection(collection, self._collections)
        self._check_open()
        builder = RowBuilder(self._dialect, owner, self._row.id, self._path_id_for)
        for batch in batched_by_size(records, _body_length, _PUT_BATCH_SIZE, _MAX_PUT_BATCH_BYTES):
            for record in batch:
                check_record(record, owner)
            self._written.add(collection)
            self._put_batch(builder, batch)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Delete the records in batches of 1,000."""
        owner = get_collection(collection, self._collections)
        self._check_open()
        table = self._dialect.table(owner.name)
        for batch in batched(keys, _DELETE_BATCH_SIZE):
            self._written.add(collection)
            encoded = tuple(map(encode_text, batch))
            sql = f"DELETE FROM {table} WHERE _tenant = ? AND _key = ANY (?) RETURNING _id"
            ids = tuple(row_id for (row_id,) in self._fetch_all(Fragment(sql, (self._row.id, encoded))))
            if ids:
                sides = f"DELETE FROM {self._dialect.side_table} WHERE _m_tenant = ? AND _m_id = ANY (?)"
                self._fetch_all(Fragment(sides, (self._row.id, ids)))

    def close(self) -> None:
        """Roll back uncommitted changes and release the write lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.execute_script("ROLLBACK")
            except StorageError:
                self._is_intact = False
            self._on_close(connection, self._is_intact)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._connection is not None:
                self._commit(self._connection)
        finally:
            self.close()

    def _commit(self, connection: Connection) -> None:
        loaded = [name for name, count in self._new_records.items() if count >= _MIN_LARGE_LOAD_RECORDS]
        for name in loaded:
            analyze(connection, self._dialect, name)
        transaction_id = self._store_numbers() if self._written else ""
        try:
            if connection.execute_script("COMMIT") != "COMMIT":
                raise StorageUnavailableError("committing: an earlier statement failed, so nothing was written")
        except ConnectionLostError as error:
            if transaction_id and not self._was_committed(transaction_id, self._row.id, self._row.serial):
                raise StorageBusyError(f"{error}; nothing was written: try again") from error
        self.committed = time.time()
        if self._written:
            self._on_commit(self._tenant_name, self._row.serial)
        for name in loaded:
            vacuum(connection, self._dialect, name)

    def _store_numbers(self) -> str:
        """Store the numbers of the tenant, notify other processes at the commit, and return the transaction id."""
        row, now = self._row, time.time_ns() // 1000
        serial = max(row.serial + 1, now)
        is_served = any(self._collections[name].bumps_revision for name in self._written)
        revision = max(row.revision + 1, now) if is_served else row.revision
        row.serial = serial
        sql = (
            "WITH changed AS (UPDATE _tenants SET revision = ?, serial = ?, last_id = ?, last_path = ? WHERE id = ?)"
            " SELECT pg_current_xact_id()::text, pg_notify(?, ?)::text"
        )
        message = self._channel, payload_of(self._tenant_name, serial)
        ((transaction_id, _),) = self._fetch_all(
            Fragment(sql, (revision, serial, row.last_id, row.last_path, row.id, *message))
        )
        return str(transaction_id)

    def _put_batch(self, builder: RowBuilder, batch: list[Record]) -> None:
        latest = {encode_text(record.key): record for record in batch}
        stored = self._stored_ids(builder.owner, list(latest))
        new, replaced = Rows(), Rows()
        for key, record in latest.items():
            if (row_id := stored.get(key)) is not None:
                builder.add(row_id, key, record, replaced)
            else:
                self._row.last_id += 1
                builder.add(self._row.last_id, key, record, new)
        if new.records:
            self._copy(builder, new)
            name = builder.owner.name
            self._new_records[name] = self._new_records.get(name, 0) + len(new.records)
        if replaced.records:
            self._run(update_rows, builder, self._row.id, replaced)

    def _copy(self, builder: RowBuilder, rows: Rows) -> None:
        def copy(connection: Connection) -> None:
            with driver_errors(f"writing {builder.owner.name}"):
                builder.copy_records(connection, rows.records)
                builder.copy_side_rows(connection, rows.side_rows)

        self._run(copy)

    def _stored_ids(self, owner: Collection, keys: list[str]) -> dict[str, int]:
        sql = f"SELECT _key, _id FROM {self._dialect.table(owner.name)} WHERE _tenant = ? AND _key = ANY (?)"
        return {encode_text(key): row_id for key, row_id in self._fetch_all(Fragment(sql, (self._row.id, tuple(keys))))}

    def _path_id_for(self, collection: str, path: str) -> int:
        """Return the id of a path, which is stored if it is new. Paths belong to one tenant, so no writer waits."""
        path_id = self._path_ids.get((collection, path))
        if path_id is None:
            path_id = self._path_id(collection, path)
            if path_id < 0:
                self._row.last_path += 1
                path_id = self._row.last_path
                sql = "INSERT INTO _paths (tenant, id, collection, path) VALUES (?, ?, ?, ?)"
                values = (self._row.id, path_id, encode_text(collection), encode_text(path))
                self._fetch_all(Fragment(sql, values))
            self._path_ids[collection, path] = path_id
        return path_id


def _body_length(record: Record) -> int:
    return len(record.body)
