"""Files below the setting `data`: held packages with their change lists, and the reports of rejected imports.

Each store has a folder, and in it each tenant has one. The files contain personal data, so only their owner can read
them, and `remove_unused` deletes those that are no longer needed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import IO, BinaryIO

from filelock import FileLock, Timeout

from chalk_flask.files import (
    atomic_write,
    create_private_file,
    make_private_folder,
    move_into_place,
    open_below,
    open_exclusive,
    sync_file,
)
from chalk_flask.roster.package.checksum import MAX_ZIP_OVERHEAD_BYTES, open_package_files
from chalk_flask.settings import Settings
from chalk_flask.settings.data_folder import store_key

__all__ = [
    "change_list_path",
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

LOCK_FILE = ".lock"
LOCK_TIMEOUT_SECONDS = 600.0
"""Time that an import waits until another import of the same tenant has held its package."""

COPY_CHUNK_BYTES = 1 << 20

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_HELD_PACKAGE = re.compile(r"(run-[0-9a-f-]{36})\.zip")
_CHANGE_LIST = re.compile(r"(run-[0-9a-f-]{36})\.changes")
_PART = re.compile(r"\.run-[0-9a-f-]{36}(?:\.changes)?\.part")
_REPORT = re.compile(r"run-[0-9a-f-]{36}\.json|\.run-[0-9a-f-]{36}\.tmp")


def store_folder(settings: Settings) -> Path:
    """Return the folder of the store. Stores of earlier versions may share the setting `data`.

    Raises OSError.
    """
    folder = Path(settings.data)
    return folder / "imports" / store_key(settings.storage, folder)


def folder_for(folder: Path, tenant: str) -> Path:
    """Return the folder of a tenant. Names of tenants are valid file names on all systems."""
    return folder / tenant


def held_package_path(folder: Path, tenant: str, run_id: str) -> Path:
    """Return the path of the package of a held run."""
    return folder_for(folder, tenant) / f"{run_id}.zip"


def change_list_path(folder: Path, tenant: str, run_id: str) -> Path:
    """Return the path of the change list of a held run."""
    return folder_for(folder, tenant) / f"{run_id}.changes"


@contextlib.contextmanager
def folder_lock(folder: Path, timeout: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Lock the folder of a tenant, among threads and processes; create it if it is missing.

    Raises OSError, and TimeoutError after `timeout` seconds.
    """
    make_private_folder(folder)
    create_private_file(folder / LOCK_FILE)
    lock = FileLock(folder / LOCK_FILE, timeout=timeout, mode=0o600)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        raise TimeoutError(None, "another import of this tenant is in progress") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def copy_package(
    source: Path, folder: Path, run_id: str, subfolder: str = "", max_bytes: int = sys.maxsize
) -> Iterator[Path]:
    """Copy a package to a temporary file, synced to disk, and delete it at the end unless it was moved into place.

    A ZIP is copied byte for byte. A folder is packed: its OneRoster files by name, uncompressed and without dates, so
    that equal folders give equal bytes. Each file is copied in the size that it has when it is opened. Raises OSError,
    also if the package is larger than `max_bytes`, or no regular file.
    """
    copy = folder / f".{run_id}.part"
    try:
        with open_exclusive(copy, for_store=True) as target:
            descriptor = open_below(source, subfolder)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                _pack_folder(descriptor, target, max_bytes)
            else:
                with os.fdopen(descriptor, "rb") as stream:
                    if not stat.S_ISREG(status.st_mode):
                        raise OSError(errno.EINVAL, "the package is not a regular file")
                    _check_size(status.st_size, max_bytes + MAX_ZIP_OVERHEAD_BYTES)
                    _copy_bytes(stream, target, status.st_size)
            sync_file(target)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file in full or not at all; only its owner can read it. Raises OSError."""
    make_private_folder(path.parent)
    with atomic_write(path, path.with_name(f".{path.stem}.tmp"), for_store=True) as file:
        file.write(content)


def remove_unused(folder: Path, runs_to_keep: Callable[[str], Set[str]], oldest: float) -> None:
    """Delete held packages that are not needed, temporary files of crashed imports, and old reports.

    `runs_to_keep` returns the ids of the held runs of a tenant. Reports older than `oldest`, in seconds since the
    epoch, are deleted. Skips tenants with an import in progress, and files that cannot be deleted.
    """
    with contextlib.suppress(OSError):
        for tenant_folder in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError), folder_lock(tenant_folder, timeout=0):
                run_ids = runs_to_keep(tenant_folder.name)
                for path in tenant_folder.iterdir():
                    if _is_unused(path, run_ids, oldest):
                        path.unlink(missing_ok=True)


def remove_tenant(folder: Path, tenant: str) -> int:
    """Delete all files of a tenant. Return the number of held packages among them. Raises OSError."""
    tenant_folder, packages = folder_for(folder, tenant), 0
    names = (_HELD_PACKAGE, _CHANGE_LIST, _PART, _REPORT)
    for path in list(tenant_folder.iterdir()) if tenant_folder.is_dir() else ():
        if path.name == LOCK_FILE or any(name.fullmatch(path.name) for name in names):
            packages += bool(_HELD_PACKAGE.fullmatch(path.name))
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder contains files of someone else
        tenant_folder.rmdir()
    return packages


def _is_unused(path: Path, run_ids: Set[str], oldest: float) -> bool:
    if match := _HELD_PACKAGE.fullmatch(path.name) or _CHANGE_LIST.fullmatch(path.name):
        return match[1] not in run_ids
    if _REPORT.fullmatch(path.name):
        return path.stat().st_mtime < oldest
    return _PART.fullmatch(path.name) is not None


def _pack_folder(folder: int, target: BinaryIO, max_bytes: int) -> None:
    with open_package_files(folder) as files, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        sizes = [os.fstat(stream.fileno()).st_size for _, stream in files]
        _check_size(sum(sizes), max_bytes)
        for (name, stream), size in zip(files, sizes, strict=True):
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.external_attr = 0o600 << 16
            entry.file_size = size
            with archive.open(entry, "w") as packed:
                _copy_bytes(stream, packed, size)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise OSError(errno.EFBIG, "the package is larger than before")


def _copy_bytes(source: IO[bytes], target: IO[bytes], count: int) -> None:
    """Copy at most this number of bytes, so that a file to which another process writes has an end."""
    while count > 0 and (chunk := source.read(min(count, COPY_CHUNK_BYTES))):
        target.write(chunk)
        count -= len(chunk)
