"""Private files: they are synced to disk, and new files in the folder of another user belong to that user.

So a service can use the files that a command of root creates in its store.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["create_private_file", "give_to_owner", "make_folder", "make_subfolder", "open_private", "sync_folder"]


def open_private(path: str, flags: int) -> int:
    """Open a file as `os.open` does. A new file has mode 0600 and the owner of its folder. Raises OSError.

    For root, a link is an error. Flags without `os.O_CREAT` are not supported. `open` accepts this function as its
    opener.
    """
    if os.geteuid() != 0:
        return os.open(path, flags, 0o600)
    try:  # Root must not give away or write another file to which the owner of the folder has linked.
        descriptor = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags | os.O_NOFOLLOW, 0o600)
    give_to_owner(descriptor, Path(path).parent)
    return descriptor


def create_private_file(path: Path, model: Path | None = None) -> None:
    """Create an empty file with mode 0600 unless it exists. Raises OSError.

    It gets the owner of the file or folder `model`, by default that of its folder.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        give_to_owner(descriptor, model or path.parent)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Create a folder and its missing parents, unless it exists. Raises OSError.

    Each gets the owner of the folder above it. `mode` is that of the last one; missing parents have the usual mode.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent, 0o777)
    make_subfolder(path, mode)


def make_subfolder(path: Path, mode: int = 0o700) -> None:
    """Create a folder with the owner of the folder above it, which must exist. Raises OSError."""
    path.mkdir(mode=mode, exist_ok=True)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                give_to_owner(descriptor, path.parent)
            finally:
                os.close(descriptor)


def give_to_owner(descriptor: int, model: Path) -> None:
    """Give a new file or folder to the owner of another one, if this process is root. Errors are ignored.

    A container may deny it to root, which then works as before.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = model.stat()
            if owner.st_uid != 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to disk, and wait for it. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
