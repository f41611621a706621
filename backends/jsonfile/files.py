"""Private files of a JSON store that are flushed to disk. All functions raise OSError."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from backends.files.private_files import open_private, sync_folder

__all__ = ["sync_folder", "write_file"]


def write_file(path: Path, parts: Iterable[bytes], time_ns: int | None = None) -> None:
    """Write a file with mode 0600, and flush it to disk. `time_ns` becomes its modification time."""
    with open(path, "wb", buffering=1 << 20, opener=open_private) as file:
        file.writelines(parts)
        file.flush()
        if time_ns is not None:
            os.utime(path, ns=(time_ns, time_ns))
        os.fsync(file.fileno())
