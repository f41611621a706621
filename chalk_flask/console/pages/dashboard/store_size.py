"""Size of the store on disk."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backends.validation import file_path

__all__ = ["StoreSize", "store_size"]

SQLITE_SUFFIXES: Final = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class StoreSize:
    """Bytes of a store, and free bytes on its disk."""

    used: int
    free: int


def store_size(url: str) -> StoreSize | None:
    """Return the size of the SQLite or JSON store at a URL; None for other stores, and if it cannot be read."""
    scheme = url.partition(":")[0]
    if scheme not in ("sqlite", "json"):
        return None
    path = file_path(url)
    paths = _files_below(path) if scheme == "json" else (path.with_name(path.name + end) for end in SQLITE_SUFFIXES)
    try:
        return StoreSize(sum(map(_size, paths)), shutil.disk_usage(path.parent).free)
    except OSError:
        return None


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
