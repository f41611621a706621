"""Private files that are written to disk completely or not at all, and files of others, read without following links.

Only the owner can access the files and folders that this module creates. All functions raise OSError.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from backends.files.private_files import create_private_file, give_to_owner, make_folder, open_private, sync_folder

__all__ = [
    "atomic_write",
    "create_once",
    "create_private_file",
    "give_to_owner",
    "make_folder",
    "make_private_folder",
    "move_into_place",
    "open_below",
    "open_exclusive",
    "open_private",
    "open_regular_file",
    "open_without_links",
    "path_without_link",
    "sync_file",
    "sync_folder",
]

MAX_LINKS = 40
"""Number of links to links that are followed, as in Linux."""


def make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and sync them to disk. An existing folder stays unchanged."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        make_folder(folder)
        sync_folder(folder.parent)


def open_exclusive(path: Path, *, for_store: bool = False) -> BinaryIO:
    """Create a file and open it for writing and reading. Raises FileExistsError if it exists.

    `for_store` gives a file that root creates to the owner of the folder, because it belongs to a store.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if for_store:
        give_to_owner(descriptor, path.parent)
    return os.fdopen(descriptor, "w+b")


def path_without_link(path: Path) -> Path:
    """Return an absolute path whose last name is no link, if the path is one that this user or root made.

    A link of another user stays as it is, so that `open_without_links` rejects it. Otherwise that user could name any
    file that this process can read.
    """
    place = _with_resolved_parent(path)
    for _ in range(MAX_LINKS):
        try:
            status = place.lstat()
            if not stat.S_ISLNK(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
                break
            place = _with_resolved_parent(place.parent / place.readlink())
        except OSError:
            break
    return place


def _with_resolved_parent(path: Path) -> Path:
    if path.name in ("", ".."):
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def open_without_links(path: Path | str, folder: int | None = None) -> int:
    """Open a file or folder for reading, and return its descriptor. Never waits for the writer of a pipe.

    A relative path begins at the descriptor `folder`. Raises OSError (ELOOP) if the last name of the path is a link.
    """
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)


def open_below(path: Path, subfolder: str = "") -> int:
    """Open a file or folder as `open_without_links` does, or the subfolder of a folder, neither of which is a link."""
    descriptor = open_without_links(path)
    if not subfolder:
        return descriptor
    try:
        return open_without_links(subfolder, descriptor)
    finally:
        os.close(descriptor)


def open_regular_file(path: Path | str, folder: int | None = None) -> BinaryIO:
    """Open a file as `open_without_links` does. Raises OSError for a folder, a pipe and other special files."""
    descriptor = open_without_links(path, folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def sync_file(file: IO[bytes]) -> None:
    """Flush the content of an open file to disk, and wait for it."""
    file.flush()
    os.fsync(file.fileno())


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced file within a folder, and sync the folder. An existing target is replaced."""
    source.replace(target)
    sync_folder(target.parent)


@contextmanager
def atomic_write(
    path: Path, part: Path | None = None, *, sync_parent: bool = True, for_store: bool = False
) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when the block ends; an exception in the block leaves `path` untouched.

    Until then the file is called `part`, by default a hidden name with random digits, next to `path`. Without
    `sync_parent`, the former file may reappear after a crash of the machine. An error names `path`, or its folder if
    that does not exist. `for_store` as in `open_exclusive`.
    """
    part = part or path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        file = open_exclusive(part, for_store=for_store)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(part.parent)) from None
    except OSError as error:
        error.filename = str(path)
        raise
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
    """Create a file of a store with this content unless it exists.

    If several processes do so at once, the first one decides the content. No reader sees an incomplete file.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open_exclusive(part, for_store=True) as file:
            file.write(content)
            sync_file(file)
        with suppress(FileExistsError):
            os.link(part, path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
