"""Pools of idle connections: readers with a begun transaction, and writers without one."""

from __future__ import annotations

import contextlib
import threading
from collections import deque

from backends.errors import StorageError, StorageUnavailableError
from backends.postgresql.connections.connection import Connection
from backends.postgresql.connections.url import Location
from backends.statement_watch import StatementWatch

__all__ = ["ConnectionPool"]

_MAX_IDLE_WRITERS = 4


class ConnectionPool:
    """Pool of the idle connections of one process, and set of those in use. Thread-safe.

    An idle reader has begun a transaction, which has no snapshot yet. So a read waits for no BEGIN. The number of
    connections in use is not limited; `pool` of the URL is the maximum number of idle readers.
    """

    def __init__(self, location: Location, watch: StatementWatch) -> None:
        self._location = location
        self._watch = watch
        self._readers: deque[Connection] = deque()
        self._writers: deque[Connection] = deque()
        self._used: set[Connection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def acquire_reader(self) -> Connection:
        """Return a connection with a read transaction, whose snapshot is taken by its first statement."""
        if (connection := self._idle(self._readers)) is not None:
            return connection
        connection = self._connect()
        try:
            connection.begin_read()
        except BaseException:
            self.discard(connection)
            raise
        return connection

    def acquire_writer(self) -> Connection:
        """Return a connection without a transaction."""
        return self._idle(self._writers) or self._connect()

    def release_reader(self, connection: Connection) -> None:
        """End the transaction, and keep the connection for another reader."""
        if self._closed or len(self._readers) >= self._location.pool or not connection.is_usable:
            self.discard(connection)
            return
        try:
            connection.begin_read()
        except StorageError:
            self.discard(connection)
            return
        self._keep(connection, self._readers)

    def release_writer(self, connection: Connection) -> None:
        """Keep a connection without a transaction for another writer."""
        if self._closed or len(self._writers) >= _MAX_IDLE_WRITERS or not connection.is_usable:
            self.discard(connection)
        else:
            self._keep(connection, self._writers)

    def discard(self, connection: Connection) -> None:
        """Close a connection in use. Its transaction is rolled back."""
        with self._lock:
            self._used.discard(connection)
        connection.close()

    def close_idle(self) -> None:
        """Close all idle connections, because the server of one of them was lost."""
        with self._lock:
            idle = [*self._readers, *self._writers]
            self._readers.clear()
            self._writers.clear()
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close all connections. Statements in progress are canceled."""
        with self._lock:
            self._closed = True
            used = list(self._used)
        self.close_idle()
        for connection in used:
            with contextlib.suppress(StorageError):
                connection.close()

    def _idle(self, connections: deque[Connection]) -> Connection | None:
        with self._lock:
            self._check_open()
            if not connections:
                return None
            connection = connections.pop()  # the one that was used last has the warmest caches
            self._used.add(connection)
            return connection

    def _keep(self, connection: Connection, connections: deque[Connection]) -> None:
        with self._lock:
            self._used.discard(connection)
            if not self._closed:
                connections.append(connection)
                return
        connection.close()

    def _connect(self) -> Connection:
        connection = Connection(self._location.conninfo, self._location.schema, self._watch)
        with self._lock:
            if not self._closed:
                self._used.add(connection)
                return connection
        connection.close()
        raise StorageUnavailableError("the store is closed: open it again to use it")

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")
