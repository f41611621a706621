"""Lock of all processes on a file of a store. A store that has vanished is not created again."""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from backends.errors import StorageBusyError, StorageUnavailableError
from backends.files.private_files import create_private_file
from backends.os_errors import error_class, error_reason

__all__ = ["LockFile"]

_POLL_SECONDS = 0.005


class LockFile:
    """Exclusive lock on a file in or beside a store. One thread at a time may use it.

    `filelock.FileLock` would create the folder of the file, so only its lock on a descriptor is used. The file is
    opened for each lock, so a fork in between does no harm.
    """

    def __init__(self, path: Path, store: Path) -> None:
        self._path, self._store = path, store
        self._descriptor: int | None = None

    def acquire(self, wait: float) -> None:
        """Lock the file within `wait` seconds; create it if it is missing, but not its folder.

        A new file belongs to the owner of the store, or of its folder if there is no store yet. Raises
        StorageBusyError if another process keeps the lock, and StorageUnavailableError if the file cannot be used.
        """
        deadline = time.monotonic() + wait
        try:
            if not self._path.exists():
                create_private_file(self._path, self._store if self._store.exists() else None)
            while not self._try():
                if time.monotonic() >= deadline:
                    raise StorageBusyError(
                        f"another process locked the store for more than {wait:g} seconds: try again"
                    )
                time.sleep(_POLL_SECONDS)
        except OSError as error:
            raise _unusable(error, self._path) from error

    def release(self) -> None:
        """Release the lock, also for processes that were forked meanwhile."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                unlock_descriptor(descriptor)
            finally:
                os.close(descriptor)

    def _try(self) -> bool:
        """Lock the file if it is free, and return True if it still has its name then. Raises OSError."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            is_locked = lock_descriptor(descriptor, blocking=False)
            if is_locked and os.path.samestat(os.fstat(descriptor), self._path.lstat()):
                self._descriptor, descriptor = descriptor, -1
                return True
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _unusable(error: OSError, path: Path) -> StorageUnavailableError:
    return error_class(error)(
        f"cannot use the lock file {path}: {error_reason(error)}; check its folder, owner and permissions"
    )
