"""SHA-256 checksum that identifies a package."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chalk_flask.roster.package.archive import KNOWN_FILE_NAMES

__all__ = ["PackageChecksum", "checksum_of_packed_folder", "package_checksum", "package_files"]

CHUNK_BYTES = 1 << 20

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


def package_checksum(path: Path, max_bytes: int) -> PackageChecksum | None:
    """Return the checksum of a package, or None if it cannot be read or is larger than `max_bytes`.

    The checksum of a ZIP covers its bytes. The checksum of a folder covers its OneRoster files in the order of their
    names. Each file adds its name, a line feed, its size in decimal digits, a line feed, and its bytes.
    """
    try:
        files = tuple(_file_state(path, file) for file in _files(path))
        is_folder = path.is_dir()
        allowed_bytes = max_bytes + (0 if is_folder else MAX_ZIP_OVERHEAD_BYTES)
        if not (files or is_folder) or sum(size for *_, size in files) > allowed_bytes:
            return None
        if is_folder:
            streams = ((name, size, (path / name).open("rb")) for name, _, _, size in files)
            return PackageChecksum(_folder_sha256(streams), files)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            _update(digest, file)
        return PackageChecksum(digest.hexdigest(), files)
    except OSError:
        return None


def package_files(folder: Path) -> list[Path]:
    """Return the OneRoster files of a folder, sorted by name. Links and special files are ignored."""
    paths = [
        path for path in folder.iterdir() if path.name in KNOWN_FILE_NAMES and path.is_file() and not path.is_symlink()
    ]
    return sorted(paths, key=lambda path: path.name)


def checksum_of_packed_folder(path: Path) -> str:
    """Return the SHA-256 of the folder from which this ZIP was packed. Raises OSError."""
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        return _folder_sha256((entry.filename, entry.file_size, archive.open(entry)) for entry in entries)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from package_files(path)
    elif path.is_file():  # a pipe or a device may have no end
        yield path


def _file_state(package: Path, file: Path) -> tuple[str, int, int, int]:
    status = file.stat()
    return "" if file is package else file.name, status.st_ino, status.st_mtime_ns, status.st_size


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
