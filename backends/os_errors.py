"""Errors of the operating system as errors of the storage layer, with a reason that an operator can act on."""

from __future__ import annotations

import errno
from pathlib import Path

from backends.errors import StorageFullError, StorageUnavailableError
from backends.files.private_files import create_private_file

__all__ = ["check_lock_file", "lock_file_error", "storage_error"]

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
    kind = StorageFullError if error.errno in _FULL else StorageUnavailableError
    return kind(f"{error.filename or subject}: {_reason(error)}")


def check_lock_file(path: Path, store: Path) -> None:
    """Create the lock file (mode 0600) if it is missing. Raises StorageUnavailableError if that is impossible.

    It gets the owner of the store, or that of its folder if there is no store yet. Waiting for a lock on a file that
    cannot be created would end with the timeout, and blame another writer.
    """
    try:
        if not path.exists():
            create_private_file(path, store if store.exists() else None)
    except OSError as error:
        raise lock_file_error(error, path) from error


def lock_file_error(error: OSError, path: Path) -> StorageUnavailableError:
    """Return the storage error for a lock file that cannot be used."""
    kind = StorageFullError if error.errno in _FULL else StorageUnavailableError
    return kind(f"cannot use the lock file {path}: {_reason(error)}; check its folder, owner and permissions")


def _reason(error: OSError) -> str:
    return (_FULL | _READ_ONLY).get(error.errno or 0) or error.strerror or type(error).__name__
