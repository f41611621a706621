"""Errors of the storage layer. A driver's own error is never raised; it is the `__cause__` of one of these.

StorageError
|-- InvalidStorageURLError    no backend for the URL, or a malformed URL
|-- InvalidQueryError         undeclared collection or field, or a value of the wrong type
|-- StorageBusyError          another writer had the write lock for longer than the caller waited
|-- QueryTimeoutError         a query took longer than its time limit
|-- StoreNotEmptyError        the target of a copy contains records
|-- IncompleteCopyError       the store is the target of a copy that has not finished
`-- StorageUnavailableError   the medium failed, or contains data of another program
"""

from __future__ import annotations

__all__ = [
    "IncompleteCopyError",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "QueryTimeoutError",
    "StorageBusyError",
    "StorageError",
    "StorageUnavailableError",
    "StoreNotEmptyError",
]


class StorageError(Exception):
    """Base class of all errors of the storage layer."""


class InvalidStorageURLError(StorageError):
    """Malformed storage URL, or no installed backend for its scheme."""


class InvalidQueryError(StorageError):
    """Undeclared collection or field in a query or record, or a value that the field cannot store."""


class StorageBusyError(StorageError):
    """Timeout while waiting for the write lock, which another writer has. Nothing was written."""


class QueryTimeoutError(StorageError):
    """Query that took longer than the time limit of its snapshot. The same query with less work may succeed."""


class StoreNotEmptyError(StorageError):
    """Target of a copy that already contains records. Nothing was written."""


class IncompleteCopyError(StorageError):
    """Store with incomplete contents: a copy into it has started but not finished."""


class StorageUnavailableError(StorageError):
    """Failure of the medium, data of another program, or use of a closed store."""
