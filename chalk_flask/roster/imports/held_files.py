"""Packages that are held lie below the setting `data`, a folder for each store and in it one for each tenant.

They are people's data: for their owner alone, and gone as soon as nobody can want them any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Set
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from chalk_flask.roster.package.checksum import files_of
from chalk_flask.settings import Settings
from chalk_flask.settings.setting import without_passwords

__all__ = [
    "copy_package",
    "folder_for",
    "folder_lock",
    "held_package_path",
    "move_into_place",
    "remove_tenant",
    "remove_unused",
    "store_folder",
    "write_file",
]

LOCK = ".lock"
WAIT = 600.0
"""Seconds that a hold waits for another one of the same tenant to be done."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_HELD = re.compile(r"(run-[0-9a-f-]{36})\.zip")
_PART = re.compile(r"\.run-[0-9a-f-]{36}\.part")
_SMALL = re.compile(r"run-[0-9a-f-]{36}\.json|\.run-[0-9a-f-]{36}\.tmp")


def store_folder(settings: Settings) -> Path:
    """Where packages of this store are held. Stores that share `data` do not see each other's."""
    scheme, _, rest = settings.storage.partition("://")
    where = f"{scheme}:{Path(rest[1:]).resolve()}" if rest.startswith("/") else without_passwords(settings.storage)
    return Path(settings.data).absolute() / "imports" / sha256(where.encode()).hexdigest()[:16]


def folder_for(folder: Path, tenant: str) -> Path:
    """Where those of a tenant are; its name is one that any disk takes."""
    return folder / tenant


def held_package_path(folder: Path, tenant: str, run: str) -> Path:
    """The file of a held run."""
    return folder_for(folder, tenant) / f"{run}.zip"


@contextlib.contextmanager
def folder_lock(folder: Path, wait: float = WAIT) -> Iterator[None]:
    """Be the only one who holds or tidies here. The folder is made. Raises OSError, TimeoutError among them."""
    _private_folder(folder)
    lock = FileLock(folder / LOCK, timeout=wait, mode=0o600)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        raise TimeoutError(None, "another import is being held") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def copy_package(source: Path, folder: Path, run: str) -> Iterator[Path]:
    """A copy of a package, on the disk for good but not under its name yet; gone in the end unless it was placed.

    A ZIP is copied byte for byte, a folder is packed: its files of OneRoster by name, neither squeezed nor dated, so
    that equal folders give equal bytes. Raises OSError.
    """
    copy = folder / f".{run}.part"
    try:
        with os.fdopen(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as target:
            if source.is_dir():
                with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                    for file in files_of(source):
                        _pack(archive, file)
            else:
                with source.open("rb") as read:
                    shutil.copyfileobj(read, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def move_into_place(copy: Path, path: Path) -> None:
    """Give the copy its name, for good. Raises OSError."""
    copy.rename(path)
    _sync(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file for its owner alone, whole or not at all. Raises OSError."""
    _private_folder(path.parent)
    written = path.with_name(f".{path.stem}.tmp")
    try:
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        move_into_place(written, path)
    finally:
        written.unlink(missing_ok=True)


def remove_unused(folder: Path, wanted: Callable[[str], Set[str]], oldest: float) -> None:
    """Remove what is held no longer, what a crash left, and small files from before a moment (POSIX seconds).

    `wanted` names the held runs of a tenant. Tenants for whom something is being held at this moment are left alone,
    and so is what cannot be removed.
    """
    with contextlib.suppress(OSError):
        for each in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError), folder_lock(each, wait=0):
                keep = wanted(each.name)
                for path in each.iterdir():
                    if _is_over(path, keep, oldest):
                        path.unlink(missing_ok=True)


def _is_over(path: Path, keep: Set[str], oldest: float) -> bool:
    if match := _HELD.fullmatch(path.name):
        return match[1] not in keep
    if _SMALL.fullmatch(path.name):
        return path.stat().st_mtime < oldest
    return _PART.fullmatch(path.name) is not None


def remove_tenant(folder: Path, tenant: str) -> int:
    """Remove everything that is kept of a tenant, and say how many packages were held. Raises OSError."""
    own, held = folder_for(folder, tenant), 0
    for path in list(own.iterdir()) if own.is_dir() else ():
        if path.name == LOCK or any(name.fullmatch(path.name) for name in (_HELD, _PART, _SMALL)):
            held += bool(_HELD.fullmatch(path.name))
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody put something of their own there
        own.rmdir()
    return held


def _private_folder(folder: Path) -> None:
    """Make the folder and what is missing above it, each for its owner alone. Raises OSError."""
    if not folder.is_dir():
        _private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _pack(archive: zipfile.ZipFile, file: Path) -> None:
    entry = zipfile.ZipInfo(file.name, _EPOCH)
    entry.external_attr = 0o600 << 16
    entry.file_size = file.stat().st_size
    with file.open("rb") as read, archive.open(entry, "w") as packed:
        shutil.copyfileobj(read, packed, 1 << 20)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
