"""Errors of the storage layer. A driver's own error is never raised; it is the `__cause__` of one of these.

StorageError
|-- InvalidStorageURLError    no backend for the URL, or a malformed URL
|-- InvalidQueryError         undeclared collection or field, or a value of the wrong type
|-- StorageBusyError          another writer had the write lock too long, or the database accepts no writes
|-- QueryTimeoutError         a query took longer than its time limit
|-- StoreNotEmptyError        the target of a copy contains records
|-- IncompleteCopyError       the store is the target of a copy that has not finished
|-- StoreInUseError           another process has the store open that is to be replaced
|-- BackupUnsupportedError    the backend cannot copy its stores to files
`-- StorageUnavailableError   the medium failed, or contains data of another program
    |-- StorageFullError      no space is left for a write
    |-- DamagedStoreError     a part of the store is missing or unreadable
    `-- NewerStoreError       a newer version of the program wrote the store

Messages of StorageUnavailableError and its subclasses contain the reason, and no key, value or body of a record. A
service can therefore log them.
"""

from __future__ import annotations

__all__ = [
    "BackupUnsupportedError",
    "DamagedStoreError",
    "IncompleteCopyError",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "NewerStoreError",
    "QueryTimeoutError",
    "StorageBusyError",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "StoreInUseError",
    "StoreNotEmptyError",
]


class StorageError(Exception):
    """Base class of all errors of the storage layer."""


class InvalidStorageURLError(StorageError):
    """Malformed storage URL, or no installed backend for its scheme."""


class InvalidQueryError(StorageError):
    """Undeclared collection or field in a query or record, or a value that the field cannot store."""


class StorageBusyError(StorageError):
    """Timeout while waiting for the write lock, or for a database that accepts writes. Nothing was written."""


class QueryTimeoutError(StorageError):
    """Query that took longer than the time limit of its snapshot. The same query with less work may succeed."""


class StoreNotEmptyError(StorageError):
    """Target of a copy that already contains records. Nothing was written."""


class IncompleteCopyError(StorageError):
    """Store with incomplete contents: a copy into it has started but not finished."""


class StoreInUseError(StorageError):
    """Store that cannot be replaced, because another process has it open."""


class BackupUnsupportedError(StorageError):
    """Backend that cannot copy its stores to files, or put them back."""


class StorageUnavailableError(StorageError):
    """Failure of the medium, data of another program, or use of a closed store."""


class StorageFullError(StorageUnavailableError):
    """Write for which the disk or the database has no space left. Nothing was written; reads go on."""


class DamagedStoreError(StorageUnavailableError):
    """Store with a part that is missing or unreadable. The message names the part and the remedy."""


class NewerStoreError(StorageUnavailableError):
    """Store that a newer version of the program wrote. The message names both schema versions."""
