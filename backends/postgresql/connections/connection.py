"""Connection that runs prepared statements with few round trips and binary results.

It uses the interface of libpq that psycopg wraps, because a read then takes half the time of psycopg's cursors. A
statement has question marks for parameters.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

from backends.errors import StorageUnavailableError
from backends.postgresql.connections.errors import connection_error, driver_errors, statement_error
from backends.postgresql.text import array_literal, decode_text
from backends.statement_watch import StatementWatch

__all__ = ["Connection", "ConnectionLostError"]

_MAX_STATEMENTS = 500
"""Maximum number of prepared statements of a connection."""

_MAX_PREPARED_PARAMS = 64
"""Number of parameters up to which a statement is prepared. Statements with more are rarely repeated."""

_LOCK_SECONDS = 5
"""Maximum time for which a statement outside of a write transaction waits for a lock of another program."""

_INTERRUPT_SECONDS = 0.05
"""Time after which a statement that is in progress is canceled, when its connection is closed."""

_MARK = re.compile(r"\?")
_BINARY, _TEXT = 1, 0
_DOUBLE = struct.Struct("!d")

_BEGIN_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT start"
_NEXT_READ = b"COMMIT; " + _BEGIN_READ  # psycopg would forget its prepared statements at a ROLLBACK


class ConnectionLostError(StorageUnavailableError):
    """Failure to connect, or loss of a connection. A read that has returned nothing can be repeated on another one."""


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


_LOADERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda value: value == b"\1",  # boolean
    20: _integer,  # bigint
    21: _integer,
    23: _integer,
    26: _integer,  # oid
    25: lambda value: decode_text(value.decode()),
    19: bytes.decode,  # name
    701: lambda value: _DOUBLE.unpack(value)[0],
}
"""Functions that read the binary form of a value, by type. Values of other types stay bytes."""


@lru_cache(maxsize=4096)
def _numbered(text: str) -> bytes:
    """Return the statement with numbered parameters, as PostgreSQL expects them."""
    numbers = count(1)
    return _MARK.sub(lambda _: f"${next(numbers)}", text).encode()


def _to_bytes(value: Any) -> bytes | None:
    """Return a parameter in its text form; bytes are binary."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes) or value is None:
        return value
    if isinstance(value, tuple):
        return _array(value).encode()
    return repr(value).encode()


def _array(values: tuple[Any, ...]) -> str:
    if not values or isinstance(values[0], (str, type(None))):
        return array_literal([*values])
    return "{" + ",".join(map(repr, values)) + "}"


class Connection:
    """Connection to the database with the schema of the store in its search path.

    Only the thread that holds `lock` runs a statement. A snapshot may be closed by another thread than the reader.
    """

    def __init__(self, conninfo: str, schema: str, watch: StatementWatch) -> None:
        with driver_errors("connecting to PostgreSQL"):
            try:
                self.driver = psycopg.connect(conninfo, autocommit=True)
            except psycopg.OperationalError as error:
                raise ConnectionLostError(str(connection_error(str(error), "connecting to PostgreSQL"))) from error
        self.lock = threading.Lock()
        self._pq = self.driver.pgconn
        self._watch = watch
        self._statements: OrderedDict[str, bytes] = OrderedDict()
        self._numbers = count()
        self._timeout: int | None = 0
        self._has_pending = False
        self.execute_script(
            f'SET search_path = "{schema}"; SET jit = off; SET idle_in_transaction_session_timeout = 0;'
            f" SET statement_timeout = 0; SET lock_timeout = {_LOCK_SECONDS * 1000}; SET array_nulls = on;"
            " SET standard_conforming_strings = on; SET client_min_messages = error;"
            " SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings"
            " WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
        )

    @property
    def server_version(self) -> int:
        """Version of the server, as 150018 for 15.18."""
        return self._pq.server_version

    def parameter(self, name: str) -> str:
        """Return a parameter that the server has reported, such as `server_encoding`."""
        return (self._pq.parameter_status(name.encode()) or b"").decode()

    def begin_read(self) -> None:
        """Begin a read transaction without waiting. Its snapshot is taken by the first statement.

        The open transaction, if there is one, ends.
        """
        with self.lock:
            is_idle = self._pq.transaction_status == pq.TransactionStatus.IDLE
            with driver_errors("reading"):
                self._pq.send_query(_BEGIN_READ if is_idle else _NEXT_READ)
            self._has_pending = True

    def limit_statements(self, seconds: float | None) -> None:
        """Cancel each later statement after this time; None means no limit. The same limit again costs nothing."""
        milliseconds = 0 if seconds is None else max(int(seconds * 1000), 1)
        if milliseconds != self._timeout:
            self.execute_script(f"SET statement_timeout = {milliseconds}")
            self._timeout = milliseconds

    def recover(self) -> None:
        """Make the transaction usable after a failed statement. The snapshot stays; open cursors end."""
        self._timeout = None
        self.execute_script("ROLLBACK TO SAVEPOINT start")

    def execute_script(self, text: str) -> str:
        """Run statements without parameters, and return the command tag of the last one."""
        with self.lock:
            result = self._checked(self._complete(lambda: self._pq.exec_(text.encode())), text)
            return (result.command_status or b"").decode()

    def fetch_all(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        result = self._run(text, params)
        if result.nfields == 1:
            load = _LOADERS.get(result.ftype(0))
            values = [result.get_value(row, 0) for row in range(result.ntuples)]
            return [(value if value is None or load is None else load(value),) for value in values]
        loaders = [_LOADERS.get(result.ftype(column)) for column in range(result.nfields)]
        return [
            tuple(
                value if (value := result.get_value(row, column)) is None or load is None else load(value)
                for column, load in enumerate(loaders)
            )
            for row in range(result.ntuples)
        ]

    def fetch_bytes(self, text: str, params: Sequence[Any] = ()) -> list[bytes]:
        """Run a statement that selects one column of bytes without NULL, and return its values."""
        result = self._run(text, params)
        return [result.get_value(row, 0) or b"" for row in range(result.ntuples)]

    def open_cursor(self, text: str, params: Sequence[Any]) -> str:
        """Declare a cursor in the open transaction, and return its name."""
        name = f"cursor{next(self._numbers)}"
        self._run(f"DECLARE {name} NO SCROLL CURSOR FOR {text}", params, is_prepared=False)
        return name

    def fetch_cursor(self, name: str, rows: int) -> list[tuple[Any, ...]]:
        """Return the next rows of a cursor."""
        return self.fetch_all(f"FETCH FORWARD {rows} FROM {name}")

    def close_cursor(self, name: str) -> None:
        """Close a cursor before its transaction ends."""
        self.execute_script(f"CLOSE {name}")

    @property
    def is_usable(self) -> bool:
        """True if the connection is open, as far as this side knows."""
        return bool(self._pq.status == pq.ConnStatus.OK)

    def close(self) -> None:
        """Close the connection. A statement that another thread runs is canceled."""
        while not self.lock.acquire(timeout=_INTERRUPT_SECONDS):
            with contextlib.suppress(psycopg.Error):
                self.driver.cancel()
        try:
            self.driver.close()
        finally:
            self.lock.release()

    def _run(self, text: str, params: Sequence[Any], *, is_prepared: bool = True) -> PGresult:
        with driver_errors("reading"):
            values: list[Any] = [_to_bytes(value) for value in params]  # None is NULL
        formats = [_BINARY if isinstance(value, bytes) else _TEXT for value in params]
        started = time.perf_counter() if self._watch.seconds < math.inf else math.nan
        with self.lock:
            if not is_prepared or len(values) > _MAX_PREPARED_PARAMS or text.startswith("FETCH"):
                sql = _numbered(text)
                result = self._complete(lambda: self._pq.exec_params(sql, values, None, formats, _BINARY))
            else:
                name = self._prepared(text)
                result = self._complete(lambda: self._pq.exec_prepared(name, values, formats, _BINARY))
            checked = self._checked(result, text)
        if (seconds := time.perf_counter() - started) > self._watch.seconds:  # never if `started` is no number
            self._watch.on_slow(text, seconds)
        return checked

    def _prepared(self, text: str) -> bytes:
        """Return the name of the prepared statement. Drops the least recently used one if there are too many."""
        name = self._statements.get(text)
        if name is not None:
            self._statements.move_to_end(text)
            return name
        if len(self._statements) >= _MAX_STATEMENTS:
            _, old = self._statements.popitem(last=False)
            self._checked(self._complete(lambda: self._pq.exec_(b"DEALLOCATE " + old)), "DEALLOCATE")
        name = b"chalk%d" % next(self._numbers)
        self._checked(self._complete(lambda: self._pq.prepare(name, _numbered(text))), text)
        self._statements[text] = name
        return name

    def _complete(self, run: Callable[[], PGresult]) -> PGresult:
        """Read the results of the statements that were sent before, and return that of `run`.

        The caller holds `lock`. Raises ConnectionLostError.
        """
        if self._pq.status != pq.ConnStatus.OK:
            raise ConnectionLostError("reading: the connection to PostgreSQL is closed")
        with _lost_connection():
            if self._has_pending:
                self._has_pending = False
                while (result := self._pq.get_result()) is not None:
                    self._checked(result, "BEGIN")
            return run()

    def _checked(self, result: PGresult, text: str) -> PGresult:
        if result.status in _SUCCESS:
            return result
        code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if self._pq.status != pq.ConnStatus.OK or not code or code.startswith(("57P", "08")):
            raise ConnectionLostError(
                str(connection_error(message or "the connection to PostgreSQL is lost", "reading"))
            )
        raise statement_error(code, message, "reading" if text.startswith("SELECT") else "writing")


_SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)


class _lost_connection:  # noqa: N801 - named like contextlib.suppress
    """Context manager that converts each error of psycopg to ConnectionLostError."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, psycopg.Error):
            raise ConnectionLostError(str(connection_error(str(error), "reading"))) from error
