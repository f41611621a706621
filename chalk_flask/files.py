"""Private files that appear on the disk in full or not at all.

Every file and folder that is created here is accessible to its owner alone. All functions raise OSError.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

__all__ = [
    "atomic_write",
    "create_once",
    "make_private_folder",
    "move_into_place",
    "open_exclusive",
    "sync_file",
    "sync_folder",
]


def make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents, all durable; a folder that exists stays as it is."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def open_exclusive(path: Path) -> BinaryIO:
    """Create a new file and open it for writing and reading. Raises FileExistsError if there is one."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def sync_file(file: IO[bytes]) -> None:
    """Return once the content of an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return once the names of the files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced file within a folder, replacing an existing target, and return once that is on the disk."""
    source.replace(target)
    sync_folder(target.parent)


@contextmanager
def atomic_write(path: Path, part: Path | None = None, *, sync_parent: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when the block ends; an exception in the block leaves `path` untouched.

    The file is called `part` until then: by default a hidden name with a random part, next to `path`. Without
    `sync_parent` a crash of the machine may bring the former file back.
    """
    part = part or path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    file = open_exclusive(part)
    try:
        with file:
            yield file
            sync_file(file)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync_parent:
        sync_folder(path.parent)


def create_once(path: Path, content: bytes) -> None:
    """Create a file with this content unless it exists.

    Of several processes that do so at once, the first one decides the content. No reader sees a part of it.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open_exclusive(part) as file:
            file.write(content)
            sync_file(file)
        with suppress(FileExistsError):
            os.link(part, path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
