"""Errors of the operating system as errors of the storage layer, with a reason that an operator can act on."""

from __future__ import annotations

import errno

from backends.errors import StorageFullError, StorageUnavailableError

__all__ = ["error_class", "error_reason", "storage_error"]

_FULL = {
    errno.ENOSPC: "the disk is full: free space on it",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit of this process is reached",
}
_READ_ONLY = {errno.EROFS: "the file system is read-only"}


def storage_error(error: OSError, subject: object) -> StorageUnavailableError:
    """Return the storage error for an error of the operating system.

    Its message names the file in `error`, or else `subject`, the file or the action that failed.
    """
    return error_class(error)(f"{error.filename or subject}: {error_reason(error)}")


def error_class(error: OSError) -> type[StorageUnavailableError]:
    """Return StorageFullError if there is no room for more data, or else StorageUnavailableError."""
    return StorageFullError if error.errno in _FULL else StorageUnavailableError


def error_reason(error: OSError) -> str:
    """Return the reason of an error as an operator would say it."""
    return (_FULL | _READ_ONLY).get(error.errno or 0) or error.strerror or type(error).__name__
