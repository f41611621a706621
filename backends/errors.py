"""Errors of the storage layer. A driver's own error is never raised; it is the `__cause__` of one of these.

StorageError
|-- InvalidStorageURLError    no backend for the URL, or a malformed URL
|-- InvalidQueryError         undeclared collection or field, or a value of the wrong type
|-- StorageBusyError          another writer held the write lock longer than the caller waited
|-- StoreNotEmptyError        the target of a copy contains records
|-- IncompleteCopyError       the store is the target of a copy that has not finished
`-- StorageUnavailableError   the medium failed, or contains data of another program
"""

from __future__ import annotations

__all__ = [
    "IncompleteCopyError",
    "InvalidQueryError",
    "InvalidStorageURLError",
    "StorageBusyError",
    "StorageError",
    "StorageUnavailableError",
    "StoreNotEmptyError",
]


class StorageError(Exception):
    """Base class of all errors of the storage layer."""


class InvalidStorageURLError(StorageError):
    """The URL is malformed, or no installed backend has its scheme."""


class InvalidQueryError(StorageError):
    """A query or record names an undeclared collection or field, or contains a value that the field cannot hold."""


class StorageBusyError(StorageError):
    """Another writer held the write lock longer than the caller was willing to wait. Nothing was written."""


class StoreNotEmptyError(StorageError):
    """The target of a copy already contains records. Nothing was written."""


class IncompleteCopyError(StorageError):
    """The store is the target of a copy that has started but not finished. Its contents are incomplete."""


class StorageUnavailableError(StorageError):
    """The medium failed, contains data of another program, or was closed."""
