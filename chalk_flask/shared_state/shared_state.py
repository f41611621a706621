"""File with the state that the serving processes of a store share."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from backends import Backend, SharedValues
from chalk_flask.files import create_private_file, make_private_folder
from chalk_flask.shared_state.transaction import SCHEMA, FileValues, delete_expired

__all__ = ["SHARED_STATE_FILE", "SharedState", "StoreState", "credential_state"]

log = logging.getLogger(__name__)

SHARED_STATE_FILE: Final = "shared-state.db"
"""Name of the file below the setting `data`."""

LOCK_TIMEOUT_SECONDS: Final = 1.0
CLEANUP_INTERVAL_SECONDS: Final = 10.0

Result = TypeVar("Result")


class SharedState:
    """State that processes share from `start` to `close`. Before and after that, each has its own. Thread-safe.

    A commit survives the end of the process. It may be lost if the machine loses power.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._has_failed = False
        self._next_cleanup = 0.0

    @property
    def is_shared(self) -> bool:
        """True if the state is in a file."""
        return self._connection is not None

    def start(self, path: Path) -> None:
        """Use the file, and create it if it is missing. If it cannot be used, log that, and share nothing."""
        try:
            make_private_folder(path.parent)
            create_private_file(path)
            self._connection = _open(path)
        except (OSError, sqlite3.Error) as error:
            self._report(error, f"the file {path} cannot be used: free space on its disk, or delete it if damaged")

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def attempt(self, operation: Callable[[SharedValues], Result], otherwise: Callable[[], Result]) -> Result:
        """Return the result of an operation in a transaction on the file, or that of `otherwise` without a file.

        `otherwise` works in the memory of this process. It also runs if the file fails. The failure is logged once. An
        exception of the operation rolls the transaction back.
        """
        if self._connection is None:
            return otherwise()
        try:
            with self._transaction() as transaction:
                result = operation(transaction)
            self._has_failed = False
        except sqlite3.Error as error:
            self._report(error, "the shared state cannot be written")
            return otherwise()
        return result

    @contextmanager
    def _transaction(self) -> Iterator[SharedValues]:
        with self._lock:
            connection = self._connection
            if connection is None:
                raise sqlite3.ProgrammingError("the file is closed")
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._clean_up(connection)
                yield FileValues(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _clean_up(self, connection: sqlite3.Connection) -> None:
        if time.monotonic() >= self._next_cleanup:
            self._next_cleanup = time.monotonic() + CLEANUP_INTERVAL_SECONDS
            delete_expired(connection, time.time())

    def _report(self, error: Exception, message: str) -> None:
        if not self._has_failed:
            log.error("%s: %s; used credentials and attempts are known to this process alone", message, error)
        self._has_failed = True


class StoreState(SharedState):
    """State in a store that several machines use. It is shared from the beginning. Thread-safe."""

    def __init__(self, store: Backend) -> None:
        super().__init__()
        self._store = store

    @property
    def is_shared(self) -> bool:
        """True: the state is in the store."""
        return True

    def attempt(self, operation: Callable[[SharedValues], Result], otherwise: Callable[[], Result]) -> Result:
        """Return the result of an operation in a transaction on the values of the store. Never calls `otherwise`.

        In its own memory, a process would accept an id that another one has accepted. Raises StorageError.
        """
        with self._store.share_values() as values:
            return operation(values)


def credential_state(store: Backend, machine_state: SharedState) -> SharedState:
    """Return the state for used credentials and attempts.

    It is in the store if several machines use the store. Otherwise it is `machine_state`, in a file.
    """
    return StoreState(store) if store.has_shared_values else machine_state


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # No commit waits for the disk. In WAL mode, a loss of power can then lose the last commits, but not the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
