"""Errors of the contract for errors of the driver. Messages contain no value of a record, and no password."""

from __future__ import annotations

import re

import psycopg

from backends.errors import (
    DamagedStoreError,
    InvalidQueryError,
    QueryTimeoutError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

__all__ = ["MAX_INDEX_ENTRY_BYTES", "connection_error", "converted_error", "driver_errors", "statement_error"]

MAX_INDEX_ENTRY_BYTES = 2704
"""Maximum size of an entry of a B-tree index, after compression. An entry has a value and the key of its record."""

_PASSWORD = re.compile(r"password\s*=\s*('(?:[^'\\]|\\.)*'|\S+)|(?<=:)[^:@/\s]+(?=@)", re.IGNORECASE)

_TOO_LARGE = "54000"
_INVALID_TEXT = ("22021", "22P05")
_FULL = ("53100",)
_BUSY = ("55P03",)
_CANCELED = ("57014",)
_NOT_PERMITTED = ("42501", "25006")
_DAMAGED = ("42P01", "42703", "3F000", "XX001", "XX002")
_TOO_MANY_PARAMS = "54023"


class driver_errors:  # noqa: N801 - named like contextlib.suppress
    """Context manager that converts errors of psycopg to errors of the contract. `action` begins their messages."""

    __slots__ = ("_action",)

    def __init__(self, action: str) -> None:
        self._action = action

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and (converted := converted_error(error, self._action)) is not None:
            raise converted from error


def converted_error(error: BaseException, action: str) -> StorageError | None:
    """Return the error of the contract for an error of the driver; None for any other error."""
    match error:
        case psycopg.Error():
            if error.sqlstate:
                return statement_error(error.sqlstate, error.diag.message_primary or "", action)
            return connection_error(str(error), action)
        case UnicodeEncodeError():
            return InvalidQueryError(f"{action}: {error.object!r} cannot be encoded as UTF-8")
    return None


def connection_error(text: str, action: str) -> StorageUnavailableError:
    """Return the error for a lost or failed connection."""
    reason = _PASSWORD.sub("(hidden)", " ".join(text.split()))
    return StorageUnavailableError(f"{action}: {reason or 'the connection to PostgreSQL is lost'}")


def statement_error(code: str, message: str, action: str) -> StorageError:
    """Return the error for the SQLSTATE of a failed statement.

    PostgreSQL's message may quote a value, so most of the errors do not include it.
    """
    if code == _TOO_LARGE:
        return InvalidQueryError(
            f"{action}: a key or an indexed value is too long for PostgreSQL: with the key of its record, it may have"
            f" at most {MAX_INDEX_ENTRY_BYTES} bytes after compression"
        )
    if code in (_TOO_MANY_PARAMS, "08P01"):
        return InvalidQueryError(f"{action}: the condition has more values than PostgreSQL accepts")
    if code in _INVALID_TEXT:
        return InvalidQueryError(f"{action}: a text cannot be encoded for PostgreSQL")
    if code in _CANCELED:
        return QueryTimeoutError(f"{action}: the query took longer than its time limit")
    if code in _BUSY:
        return StorageBusyError(
            f"{action}: another writer or program held a lock for longer than the time limit: try again"
        )
    if code in _FULL:
        return StorageFullError(f"{action}: the disk of PostgreSQL is full: free space on it")
    if code in _NOT_PERMITTED:
        return StorageUnavailableError(
            f"{action}: PostgreSQL permits no access ({code}): {message}; grant the role rights on the schema"
        )
    if code in _DAMAGED:
        return DamagedStoreError(f"{action}: a part of the store is missing ({code}); run `chalk-flask check --repair`")
    if code.startswith(("53", "57P", "58", "28", "3D", "08")):
        return StorageUnavailableError(f"{action}: {message or 'PostgreSQL failed'} ({code})")
    return StorageUnavailableError(f"{action}: PostgreSQL reported the error {code}")
