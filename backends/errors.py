"""What goes wrong in storage. A driver's own error never escapes: it is the `__cause__`.

StorageError
|-- InvalidStorageURLError     no backend for the URL, or the URL is malformed
|-- InvalidQueryError          the query names something that is not declared, or compares text with a number
|-- StorageBusyError         another writer held the store for longer than one was ready to wait
|-- StoreNotEmptyError     a store that was to be filled by a copy holds something
|-- IncompleteCopyError   a store that a copy has begun to fill is not whole yet
`-- StorageUnavailableError       the medium failed or holds something that is not ours; `__cause__` is the driver's error
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
    """Whatever goes wrong below the contract; a driver's own error never escapes."""


class InvalidStorageURLError(StorageError):
    """No backend answers to the URL, or the URL is malformed."""


class InvalidQueryError(StorageError):
    """The query names a collection or field that is not declared, or compares a field with the wrong kind of value."""


class StorageBusyError(StorageError):
    """Another writer held the store for longer than the caller was ready to wait; nothing was written."""


class StoreNotEmptyError(StorageError):
    """A store that was to be filled by a copy holds something; nothing was written."""


class IncompleteCopyError(StorageError):
    """A copy has begun to fill the store and has not ended: what it holds is not whole."""


class StorageUnavailableError(StorageError):
    """The medium failed, or what lies there is not a store of ours."""
