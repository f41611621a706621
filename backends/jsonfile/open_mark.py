"""File `.open` of a JSON store, which each process locks while it has the store open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from backends.errors import StorageBusyError, StoreInUseError
from backends.files.private_files import open_private

__all__ = ["OPEN_FILE", "OpenMark", "exclusive_lock"]

OPEN_FILE = ".open"


class OpenMark:
    """Shared lock on the file of a store, from `set` to `clear`, so that no other process replaces the store."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / OPEN_FILE
        self._descriptor: int | None = None

    def set(self) -> None:
        """Lock the file; create it if it is missing. A file system that cannot be written or locked gets no mark.

        Raises StorageBusyError while the store is being replaced.
        """
        with contextlib.suppress(OSError):
            self._descriptor = _open(self._path)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self.clear()
                raise StorageBusyError(f"{self._path.parent} is being replaced by a restore: try again") from None

    def clear(self) -> None:
        """Unlock the file. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.clear()


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep all other processes from opening the store until the block ends.

    Raises StoreInUseError if a process has the store open, and OSError.
    """
    descriptor = _open(folder / OPEN_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUseError(f"{folder} is in use: stop the service and every import first") from None
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the file for reading, so that a store without write permission can be marked too."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return open_private(str(path), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC)
