"""A OneRoster CSV package on disk, ZIP or folder, opened under limits."""

from __future__ import annotations

import contextlib
import csv
import io
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from chalk_flask.oneroster.csv import manifest
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.problems import ImportProblems, PackageRejected

__all__ = ["ArchiveLimits", "Package", "UnreadableFileError", "open_package"]

SMALL = 1 << 20
"""Below this size (in bytes) the ratio of an entry says nothing: a short repetitive file packs very well."""

MAX_ROW_BYTES = 16 << 20
"""Bytes of a row, or of the whole manifest."""

PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

AGAIN = "Give the path of a OneRoster CSV package: a ZIP or a folder."

KNOWN = {manifest.MANIFEST, *(f"{name}.csv" for name in FILES)}


@dataclass(frozen=True)
class ArchiveLimits:
    """What a package may cost: entries, bytes unpacked, unpacked bytes for each packed one, bytes of a cell."""

    entries: int = 64
    size: int = 512 << 20
    ratio: int = 200
    field: int = 128 << 10


class UnreadableFileError(Exception):
    """The bytes of a file could not be read: a broken ZIP entry, or the disk failed."""


class Package(ABC):
    """The files of a package. `modes` is what the manifest says of each data file."""

    modes: dict[str, str]

    @abstractmethod
    def names(self) -> list[str]:
        """The file names at the root."""

    @abstractmethod
    def raw(self, name: str) -> IO[bytes]:
        """The bytes of a file."""

    @contextlib.contextmanager
    def text(self, name: str, row: Callable[[], int]) -> Iterator[io.TextIOWrapper]:
        """The text of a file; bytes that are not UTF-8 come as lone surrogates. `row` says which row is being read.

        Raises Unreadable, and csv.Error when a row is too long.
        """
        try:
            with self._opened(name) as raw:
                bounded = cast(IO[bytes], _RowLimitedStream(raw, row))
                yield io.TextIOWrapper(bounded, encoding="utf-8-sig", errors="surrogateescape", newline="")
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise UnreadableFileError(_reason(error)) from error

    def _opened(self, name: str) -> IO[bytes]:
        try:
            return self.raw(name)
        except ValueError as error:  # a name in a ZIP that is not in its own encoding
            raise UnreadableFileError(_reason(error)) from error

    def data_files(self) -> list[str]:
        """The data files that are there, by the standard's names, in the order in which they are read."""
        there = set(self.names())
        return [name for name in FILES if f"{name}.csv" in there]


class _RowLimitedStream(io.BufferedIOBase):
    """Bytes that end with an error when one row takes too many: it is held whole, in many times its size."""

    def __init__(self, raw: IO[bytes], row: Callable[[], int]) -> None:
        self._read = cast(io.BufferedIOBase, raw).read1
        self._row = row
        self._at = 0
        self._left = MAX_ROW_BYTES

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        if (now := self._row()) != self._at:
            self._at, self._left = now, MAX_ROW_BYTES
        data = self._read(size)
        self._left -= len(data)
        if self._left < 0:
            raise csv.Error(f"it takes more than {MAX_ROW_BYTES >> 20} MiB")
        return data


class _Zip(Package):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def names(self) -> list[str]:
        return self._archive.namelist()

    def raw(self, name: str) -> IO[bytes]:
        return self._archive.open(name)


class _Folder(Package):
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self._path.iterdir() if entry.suffix.lower() == ".csv")

    def raw(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")


@contextlib.contextmanager
def open_package(path: Path, limits: ArchiveLimits, problems: ImportProblems) -> Iterator[Package]:
    """Open the package; its `modes` are still to be read. Raises Refused, with the reasons in `problems`."""
    with contextlib.ExitStack() as stack:
        package: Package
        try:
            if path.is_dir():
                package = _Folder(path)
                _check_folder(path, package, limits, problems)
            else:
                archive = stack.enter_context(_archive(path, problems))
                package = _Zip(archive)
                _check_entries(archive, limits, problems)
        except OSError as error:
            problems.error("unreadable", f"{path.name!r} cannot be read: {_reason(error)}", AGAIN)
        _stop(problems)
        _check_names(package, problems)
        yield package


def _reason(error: Exception) -> str:
    """What a system says of a failure, without the path; of a broken ZIP what its reader says."""
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def _stop(problems: ImportProblems) -> None:
    if problems.total:
        raise PackageRejected


def _archive(path: Path, problems: ImportProblems) -> zipfile.ZipFile:
    try:
        if path.exists() and not path.is_file():
            raise zipfile.BadZipFile  # reading a pipe or a device might never end
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        problems.error("not_found", f"there is no file or folder {path.name!r}", AGAIN)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        problems.error("not_a_zip", f"{path.name!r} is not a readable ZIP file", AGAIN)
    raise PackageRejected


def _check_entries(archive: zipfile.ZipFile, limits: ArchiveLimits, problems: ImportProblems) -> None:
    entries = archive.infolist()
    if not entries:
        problems.error("empty_package", "the ZIP file holds nothing", "Export the package again.")
    _check_count(len(entries), limits, problems)
    _check_size(sum(entry.file_size for entry in entries), limits, problems)
    seen: set[str] = set()
    for entry in entries[: limits.entries]:
        if found := _entry_problem(entry, limits, entry.filename in seen):
            problems.error(*found, file=entry.filename)
        seen.add(entry.filename)


def _entry_problem(entry: zipfile.ZipInfo, limits: ArchiveLimits, repeated: bool) -> tuple[str, str, str] | None:
    name = entry.filename
    if ".." in name.split("/") or name.startswith("/") or "\\" in entry.orig_filename or ":" in name:
        return "bad_path", "the entry's path leads out of the package", "Put plain file names at the root of the ZIP."
    if "/" in name:
        return "nested_folder", "the entry lies in a folder", "Put all files at the root of the ZIP."
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "not_a_file", "the entry is a link or another special file", "Put the file itself into the ZIP."
    if entry.flag_bits & 0x1:
        return "encrypted", "the entry is encrypted", "Export the package without a password."
    if entry.compress_type not in PACKED_BY:
        return "unknown_compression", "the entry is packed in a way that is not read", "Pack it with deflate."
    if repeated:
        return "repeated_file", "the ZIP holds two entries of this name", "Leave one of them out."
    if entry.file_size > SMALL and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        message = f"the entry unpacks to more than {limits.ratio} times its packed size"
        return "bomb", message, "Raise import_max_ratio if the package is genuine."
    return None


def _check_folder(path: Path, package: Package, limits: ArchiveLimits, problems: ImportProblems) -> None:
    names = package.names()
    _check_count(len(names), limits, problems)
    odd = [name for name in names if (path / name).is_symlink() or not (path / name).is_file()]
    for name in odd:
        problems.error("not_a_file", "a link or folder stands for a file", "Put the file itself there.", file=name)
    _check_size(sum((path / name).stat().st_size for name in names if name not in odd), limits, problems)


def _check_count(count: int, limits: ArchiveLimits, problems: ImportProblems) -> None:
    if count > limits.entries:
        message = f"the package holds {count} files; at most {limits.entries} are read"
        problems.error("too_many_files", message, "Leave the others out or raise import_max_entries.")


def _check_size(size: int, limits: ArchiveLimits, problems: ImportProblems) -> None:
    if size > limits.size:
        message = f"the package unpacks to {size} bytes; at most {limits.size} are read"
        problems.error("too_large", message, "Raise import_max_mb if the package is genuine.")


def _check_names(package: Package, problems: ImportProblems) -> None:
    for name in package.names():
        if name not in KNOWN:
            close = next((known for known in KNOWN if known.lower() == name.lower()), None)
            remedy = f"Rename it to {close} if it is meant." if close else "It was ignored."
            problems.warn("unknown_file", "not a file of OneRoster 1.1", remedy, file=name)
