"""A OneRoster CSV package on disk, ZIP or folder, opened under limits."""

from __future__ import annotations

import contextlib
import csv
import io
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chalk_flask.oneroster import manifest
from chalk_flask.oneroster.resources import FILES
from chalk_flask.roster.problems import Problems, Refused

__all__ = ["Limits", "Package", "Unreadable", "open_package"]

SMALL = 1 << 20
"""Below this size (in bytes) the ratio of an entry says nothing: a short repetitive file packs very well."""

KNOWN = {manifest.MANIFEST, *(f"{name}.csv" for name in FILES)}


@dataclass(frozen=True)
class Limits:
    """What a package may cost: entries, bytes unpacked, unpacked bytes for each packed one, bytes of a cell."""

    entries: int = 64
    size: int = 512 << 20
    ratio: int = 200
    field: int = 128 << 10


class Unreadable(Exception):
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
    def text(self, name: str) -> Iterator[io.TextIOWrapper]:
        """The text of a file; bytes that are not UTF-8 come as lone surrogates. Raises Unreadable."""
        try:
            with self.raw(name) as raw:
                yield io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise Unreadable(f"{type(error).__name__} while reading {name}") from error

    def data_files(self) -> list[str]:
        """The data files that are there, by the standard's names, in the order in which they are read."""
        there = set(self.names())
        return [name for name in FILES if f"{name}.csv" in there]


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
def open_package(path: Path, limits: Limits, problems: Problems) -> Iterator[Package]:
    """Open the package and read its manifest. Raises Refused, with the reasons in `problems`."""
    with contextlib.ExitStack() as stack:
        package: Package
        if path.is_dir():
            package = _Folder(path)
            _check_folder(path, package, limits, problems)
        else:
            archive = _archive(path, problems)
            stack.enter_context(archive)
            package = _Zip(archive)
            _check_entries(archive, limits, problems)
        _stop(problems)
        _check_names(package, problems)
        package.modes = _manifest(package, problems)
        yield package


def _stop(problems: Problems) -> None:
    if problems.total:
        raise Refused


def _archive(path: Path, problems: Problems) -> zipfile.ZipFile:
    again = "Give the path of a OneRoster CSV package: a ZIP or a folder."
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        problems.error("not_found", f"there is no file or folder {path.name!r}", again)
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, ValueError):
        problems.error("not_a_zip", f"{path.name!r} is not a readable ZIP file", again)
    except OSError as error:
        problems.error("unreadable", f"{path.name!r} cannot be read: {error.strerror or type(error).__name__}", again)
    raise Refused


def _check_entries(archive: zipfile.ZipFile, limits: Limits, problems: Problems) -> None:
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


def _entry_problem(entry: zipfile.ZipInfo, limits: Limits, repeated: bool) -> tuple[str, str, str] | None:
    name = entry.filename
    if ".." in name.split("/") or name.startswith("/") or "\\" in entry.orig_filename or ":" in name:
        return "bad_path", "the entry's path leads out of the package", "Put plain file names at the root of the ZIP."
    if "/" in name:
        return "nested_folder", "the entry lies in a folder", "Put all files at the root of the ZIP."
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "not_a_file", "the entry is a link or another special file", "Put the file itself into the ZIP."
    if entry.flag_bits & 0x1:
        return "encrypted", "the entry is encrypted", "Export the package without a password."
    if repeated:
        return "repeated_file", "the ZIP holds two entries of this name", "Leave one of them out."
    if entry.file_size > SMALL and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        message = f"the entry unpacks to more than {limits.ratio} times its packed size"
        return "bomb", message, "Raise import_max_ratio if the package is genuine."
    return None


def _check_folder(path: Path, package: Package, limits: Limits, problems: Problems) -> None:
    names = package.names()
    _check_count(len(names), limits, problems)
    odd = [name for name in names if (path / name).is_symlink() or not (path / name).is_file()]
    for name in odd:
        problems.error("not_a_file", "a link or folder stands for a file", "Put the file itself there.", file=name)
    _check_size(sum((path / name).stat().st_size for name in names if name not in odd), limits, problems)


def _check_count(count: int, limits: Limits, problems: Problems) -> None:
    if count > limits.entries:
        message = f"the package holds {count} files; at most {limits.entries} are read"
        problems.error("too_many_files", message, "Leave the others out or raise import_max_entries.")


def _check_size(size: int, limits: Limits, problems: Problems) -> None:
    if size > limits.size:
        message = f"the package unpacks to {size} bytes; at most {limits.size} are read"
        problems.error("too_large", message, "Raise import_max_mb if the package is genuine.")


def _check_names(package: Package, problems: Problems) -> None:
    for name in package.names():
        if name not in KNOWN:
            close = next((known for known in KNOWN if known.lower() == name.lower()), None)
            remedy = f"Rename it to {close} if it is meant." if close else "It was ignored."
            problems.warn("unknown_file", "not a file of OneRoster 1.1", remedy, file=name)


def _manifest(package: Package, problems: Problems) -> dict[str, str]:
    properties = _properties(package, problems)
    _stop(problems)
    for fault in manifest.faults(properties, package.data_files()):
        if fault.fatal:
            problems.error(
                fault.code,
                fault.message,
                fault.remedy,
                file=manifest.MANIFEST,
                column=fault.property,
                value=fault.value,
            )
        else:
            problems.warn(fault.code, fault.message, fault.remedy, file=manifest.MANIFEST)
    _stop(problems)
    return manifest.modes(properties)


def _properties(package: Package, problems: Problems) -> dict[str, str]:
    name, properties = manifest.MANIFEST, dict[str, str]()
    if name not in package.names():
        remedy = "Add manifest.csv, which OneRoster 1.1 demands, at the root of the package."
        problems.error("missing_manifest", "the package has no manifest.csv", remedy, file=name)
        return properties
    with package.text(name) as text:
        try:
            rows = list(csv.reader(text, strict=True))
        except csv.Error as error:
            problems.error("bad_csv", f"the file is not CSV: {error}", "Export the package again.", file=name)
            return properties
    if not rows or [cell.strip() for cell in rows[0]] != manifest.HEADER:
        remedy = f"Write {','.join(manifest.HEADER)} as the first line."
        problems.error("bad_header", "the header is wrong", remedy, file=name, row=1)
    for number, row in enumerate(rows[1:], 2):
        if row and len(row) != 2:
            remedy = "Write propertyName,value in each row."
            problems.error("bad_row", f"the row has {len(row)} cells, not 2", remedy, file=name, row=number)
        elif row:
            _add_property(properties, row[0].strip(), row[1].strip(), number, problems)
    return properties


def _add_property(properties: dict[str, str], name: str, value: str, row: int, problems: Problems) -> None:
    if properties.setdefault(name, value) != value:
        remedy = "Leave one of the two rows out."
        problems.error("repeated_property", f"{name} stands twice", remedy, file=manifest.MANIFEST, row=row)
