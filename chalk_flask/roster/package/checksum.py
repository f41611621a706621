"""SHA-256 checksum that identifies a package."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chalk_flask.files import open_below, open_regular_file
from chalk_flask.oneroster.csv.file_names import KNOWN_FILE_NAMES

__all__ = [
    "MAX_ZIP_OVERHEAD_BYTES",
    "PackageChecksum",
    "checksum_of_packed_folder",
    "open_package_files",
    "package_checksum",
]

CHUNK_BYTES = 1 << 20

_LOWER_CASE_NAMES = {name.lower() for name in KNOWN_FILE_NAMES}

MAX_ZIP_OVERHEAD_BYTES = 1 << 20
"""Bytes by which a ZIP file may be larger than its unpacked content."""


@dataclass(frozen=True, slots=True)
class PackageChecksum:
    """SHA-256 of a package in hexadecimal digits, and the state of its files when it was computed.

    Each entry of `files` holds name (empty for a ZIP), inode, modification time in nanoseconds and size in bytes.
    Two equal instances prove that no file was replaced or changed in between.
    """

    sha256: str
    files: tuple[tuple[str, int, int, int], ...]

    @property
    def is_of_folder(self) -> bool:
        """True if the package is a folder."""
        return not any(name == "" for name, *_ in self.files)


def package_checksum(path: Path, max_bytes: int, subfolder: str = "") -> PackageChecksum | None:
    """Return the checksum of a package, or None if it cannot be read or is larger than `max_bytes`.

    The checksum of a ZIP covers its bytes. The checksum of a folder covers its OneRoster files in the order of their
    names. Each file adds its name, a line feed, its size in decimal digits, a line feed, and its bytes.
    """
    try:
        descriptor = open_below(path, subfolder)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            with open_package_files(descriptor) as streams:
                files = tuple(_file_state(name, file) for name, file in streams)
                if _size(files) > max_bytes:
                    return None
                contents = ((name, state[-1], file) for state, (name, file) in zip(files, streams, strict=True))
                return PackageChecksum(_folder_sha256(contents), files)
        with os.fdopen(descriptor, "rb") as file:
            state = _file_state("", file)
            # A pipe or a device may have no end.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or state[-1] > max_bytes + MAX_ZIP_OVERHEAD_BYTES:
                return None
            digest = hashlib.sha256()
            _update(digest, file)
            return PackageChecksum(digest.hexdigest(), (state,))
    except OSError:
        return None


@contextmanager
def open_package_files(folder: int) -> Iterator[list[tuple[str, IO[bytes]]]]:
    """Yield names and streams of the OneRoster files of an open folder, sorted by name. Closes files and folder.

    Files whose names differ in letter case are included, because lenient reading accepts them.

    Links and special files are ignored. Raises OSError.
    """
    with ExitStack() as stack:
        stack.callback(os.close, folder)
        yield [
            (name, stack.enter_context(file))
            for name in sorted(os.listdir(folder))
            if name.lower() in _LOWER_CASE_NAMES and (file := _open_if_regular(name, folder)) is not None
        ]


def checksum_of_packed_folder(path: Path) -> str | None:
    """Return the SHA-256 of the folder from which this ZIP was packed; None for another file. Raises OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                return None
            return _folder_sha256((entry.filename, entry.file_size, archive.open(entry)) for entry in entries)
    except zipfile.BadZipFile:
        return None


def _open_if_regular(name: str, folder: int) -> IO[bytes] | None:
    try:
        return open_regular_file(name, folder)
    except OSError:
        return None


def _file_state(name: str, file: IO[bytes]) -> tuple[str, int, int, int]:
    status = os.fstat(file.fileno())
    return name, status.st_ino, status.st_mtime_ns, status.st_size


def _size(files: Iterable[tuple[str, int, int, int]]) -> int:
    return sum(size for *_, size in files)


def _folder_sha256(files: Iterable[tuple[str, int, IO[bytes]]]) -> str:
    digest = hashlib.sha256()
    for name, size, file in files:
        with closing(file):
            digest.update(f"{name}\n{size}\n".encode())
            _update(digest, file)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, file: IO[bytes]) -> None:
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
