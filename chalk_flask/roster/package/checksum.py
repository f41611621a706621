"""What a package is told by: the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chalk_flask.roster.package.archive import KNOWN

__all__ = ["PackageChecksum", "files_of", "of_packed", "package_checksum"]

PIECE = 1 << 20

HEADERS = 1 << 20
"""Bytes by which a ZIP may be larger than what it holds."""


@dataclass(frozen=True, slots=True)
class PackageChecksum:
    """The SHA-256 of a package in hexadecimal digits, and how its files were seen: two equal ones are one package."""

    sha256: str
    seen: tuple[tuple[str, int, int, int], ...]


def package_checksum(path: Path, most: int) -> PackageChecksum | None:
    """The fingerprint of a package; None for what is neither a file nor a folder, cannot be read or takes more bytes.

    That of a file is over its bytes. That of a folder is over the files of OneRoster in it, in order of their names:
    of each the name, a line feed, its size in decimal digits, a line feed, and its bytes.
    """
    try:
        seen = tuple(_seen(path, file) for file in _files(path))
        folder = path.is_dir()
        if not (seen or folder) or sum(size for *_, size in seen) > most + HEADERS * (not folder):
            return None
        if folder:
            return PackageChecksum(_over((name, size, (path / name).open("rb")) for name, _, _, size in seen), seen)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            _add(digest, file)
        return PackageChecksum(digest.hexdigest(), seen)
    except OSError:
        return None


def files_of(folder: Path) -> list[Path]:
    """The files of OneRoster in a folder by name; links and the like are none."""
    found = [path for path in folder.iterdir() if path.name in KNOWN and path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: path.name)


def of_packed(path: Path) -> str:
    """The SHA-256 that the folder had of which this ZIP was made. Raises OSError."""
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        return _over((entry.filename, entry.file_size, archive.open(entry)) for entry in entries)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from files_of(path)
    elif path.is_file():  # reading a pipe or a device might never end
        yield path


def _seen(package: Path, file: Path) -> tuple[str, int, int, int]:
    status = file.stat()
    return "" if file is package else file.name, status.st_ino, status.st_mtime_ns, status.st_size


def _over(files: Iterable[tuple[str, int, IO[bytes]]]) -> str:
    digest = hashlib.sha256()
    for name, size, file in files:
        with closing(file):
            digest.update(f"{name}\n{size}\n".encode())
            _add(digest, file)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, file: IO[bytes]) -> None:
    while piece := file.read(PIECE):
        digest.update(piece)
