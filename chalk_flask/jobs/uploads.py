"""Uploaded packages: streamed to a private file, and stored in full or not at all."""

from __future__ import annotations

import errno
import secrets
import shutil
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, Final

from chalk_flask.files import atomic_write, make_private_folder
from chalk_flask.roster.package.problems import escape_undecodable, to_one_line
from chalk_flask.roster.package.zip_errors import not_a_zip

__all__ = ["DiskFullError", "UploadError", "UploadTooLargeError", "clean_file_name", "store_upload"]

CHUNK_BYTES: Final = 1 << 18
MIN_FREE_BYTES: Final = 64 << 20
"""Disk space that an upload leaves free, so that the store can be written."""
MAX_NAME_LENGTH: Final = 200
DEFAULT_NAME: Final = "package.zip"
_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UploadError(Exception):
    """Error for an upload that was not stored. The message contains the reason and the remedy, for the user."""


class UploadTooLargeError(UploadError):
    """Error for a package that is larger than the setting `upload_max_mb`."""


class DiskFullError(UploadError):
    """Error for a package for which the disk has no space."""


def clean_file_name(name: str | None) -> str:
    """Return the last part of the file name that a client sent, as one printable line of at most 200 characters."""
    last = (name or "").replace("\\", "/").rpartition("/")[2].strip()
    return to_one_line(escape_undecodable(last))[:MAX_NAME_LENGTH] or DEFAULT_NAME


def store_upload(folder: Path, stream: IO[bytes], name: str, max_bytes: int, *, accepts_any: bool = False) -> Path:
    """Copy a stream to a new file in the folder, synced to disk, and return its path.

    `name` is the name of the package in messages. Raises UploadError if it is larger than `max_bytes`, if it is no ZIP
    file (unless `accepts_any`), or if the disk is full, and OSError. No file is left behind if that happens.
    """
    make_private_folder(folder)
    path = folder / f"upload-{secrets.token_hex(16)}.zip"
    try:
        with atomic_write(path, path.with_name(f".{path.stem}.part"), for_store=True) as file:
            _copy(stream, file, name, max_bytes, folder)
            if not accepts_any:
                _check_zip(file, name)
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            raise _disk_full(name) from error
        raise
    return path


def _copy(stream: IO[bytes], file: BinaryIO, name: str, max_bytes: int, folder: Path) -> None:
    size = 0
    while chunk := stream.read(CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise UploadTooLargeError(
                f"{name!r} is larger than {max_bytes >> 20} MiB: if the package is genuine, ask the operator to raise"
                " the setting upload_max_mb"
            )
        if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
            raise _disk_full(name)
        file.write(chunk)


def _check_zip(file: BinaryIO, name: str) -> None:
    file.flush()
    if not zipfile.is_zipfile(file):
        problem = not_a_zip(name, file)
        raise UploadError(f"{problem.message}: upload a ZIP file with the CSV files of OneRoster 1.1")


def _disk_full(name: str) -> DiskFullError:
    return DiskFullError(f"the disk of the service has no space for {name!r}: tell the operator, and try again later")
