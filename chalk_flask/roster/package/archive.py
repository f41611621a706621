"""Access to the files of a OneRoster CSV package, ZIP or folder, under limits.

docs/conformance, I-13, states which packages are accepted.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from chalk_flask.files import open_below, open_without_links
from chalk_flask.oneroster.csv.file_format import HEAD_BYTES
from chalk_flask.oneroster.csv.file_names import KNOWN_FILE_NAMES, similar_name
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.layout import APPLE_DOUBLE_PREFIX, PackageLayout, entry_path
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, PackageRejectedError
from chalk_flask.roster.package.zip_errors import PATH_HINT, ZIP_START, entry_error, misplaced_entry, not_a_zip

__all__ = ["ArchiveLimits", "DescriptorReader", "FilePlace", "Package", "UnreadableFileError", "open_package"]

MAX_TOTAL_ENTRIES = 100_000
"""Maximum number of entries of a package with all its subfolders, which are not read."""

MAX_ROW_BYTES = 16 << 20
"""Maximum size of a row, or of the whole manifest."""

READ_BYTES = 64 << 10
"""Size of the parts in which a file is read."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of a package: entries, unpacked bytes, unpacked bytes per packed byte, bytes of a cell."""

    entries: int = 64
    size: int = 512 << 20
    ratio: int = 200
    field: int = 128 << 10


class UnreadableFileError(Exception):
    """Error for a file whose bytes cannot be read: a damaged ZIP entry or a disk error."""


READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""Errors that reading a file of a package raises. zipfile raises NotImplementedError for an unknown compression."""


class FilePlace(NamedTuple):
    """Place of the bytes of a file: a descriptor, and the index of the entry if the file is in a ZIP file."""

    descriptor: int
    entry: int | None


class Package(ABC):
    """Files of a package. `modes` holds the mode of each data file, and is set once the manifest is read."""

    modes: dict[str, str]

    def __init__(self, layout: PackageLayout) -> None:
        self._layout = layout

    def names(self) -> list[str]:
        """Return the names of the files in the folder of the package."""
        return list(self._layout.files)

    @abstractmethod
    def open_raw(self, name: str) -> IO[bytes]:
        """Return a byte stream of a file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the size of a file in bytes, unpacked."""

    @abstractmethod
    def place(self, name: str) -> FilePlace:
        """Return the place of the bytes of a file, for a process that inherits the descriptor."""

    @abstractmethod
    def check_limits(self, limits: ArchiveLimits) -> Iterator[ImportProblem]:
        """Yield an error for each entry that is not a plain file, and for each exceeded limit. Raises OSError."""

    def warnings(self) -> Iterator[ImportProblem]:
        """Yield warnings about the layout, and one for each file that is not read, unless it is in `misnamed_files`."""
        yield from self._layout.warnings()
        misnamed = set(self.misnamed_files().values())
        for name in self.names():
            if name not in KNOWN_FILE_NAMES and name not in misnamed:
                message = "not a file of OneRoster 1.1"
                yield ImportProblem("unknown_file", message, "It was ignored.", file=name, is_warning=True)

    def misnamed_files(self) -> dict[str, str]:
        """Return the file that most likely should have this name, by the name of each missing file."""
        names = self.names()
        similar = {similar_name(name): name for name in reversed(names) if name not in KNOWN_FILE_NAMES}
        return {name: similar[name] for name in KNOWN_FILE_NAMES.intersection(similar).difference(names)}

    def use_standard_case(self, names: Sequence[str]) -> list[str]:
        """Give these names to files whose names differ in letter case. Return their former names."""
        return self._layout.use_standard_case(names)

    @contextlib.contextmanager
    def open_text(self, name: str, row_number: Callable[[], int]) -> Iterator[io.TextIOWrapper]:
        """Yield a text stream of a file. Bytes that are not UTF-8 are read as lone surrogates.

        `row_number` returns the number of the current row. Raises UnreadableFileError, and csv.Error if a row has more
        than `MAX_ROW_BYTES` bytes.
        """
        try:
            with self._open_bytes(name) as raw:
                limited = cast(IO[bytes], _RowLimitedStream(raw, row_number))
                yield io.TextIOWrapper(limited, encoding="utf-8-sig", errors="surrogateescape", newline="")
        except READ_ERRORS as error:
            raise UnreadableFileError(_reason(error)) from error

    def read_head(self, name: str) -> bytes:
        """Return the first `HEAD_BYTES` bytes of a file; nothing if they cannot be read, which `open_text` reports."""
        try:
            with self._open_bytes(name) as raw:
                return raw.read(HEAD_BYTES)
        except (*READ_ERRORS, UnreadableFileError):
            return b""

    def _open_bytes(self, name: str) -> IO[bytes]:
        try:
            return self.open_raw(name)
        except ValueError as error:  # the name of the ZIP entry is not valid in its declared encoding
            raise UnreadableFileError(_reason(error)) from error

    def data_files(self) -> list[str]:
        """Return the names of the data files in the package, without `.csv`, in the order of FILES."""
        names = set(self.names())
        return [name for name in FILES if f"{name}.csv" in names]


class _RowLimitedStream(io.BufferedIOBase):
    """Byte stream that raises csv.Error on a long row. The CSV reader needs many times the memory of a row."""

    def __init__(self, raw: IO[bytes], row_number: Callable[[], int]) -> None:
        self._read = cast(io.BufferedIOBase, raw).read1
        self._row_number = row_number
        self._current_row = 0
        self._remaining_bytes = MAX_ROW_BYTES
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        """Return the number of bytes that were read."""
        return self._position

    def read1(self, size: int = -1, /) -> bytes:
        if (row := self._row_number()) != self._current_row:
            self._current_row, self._remaining_bytes = row, MAX_ROW_BYTES
        data = self._read(max(size, READ_BYTES))  # `io.TextIOWrapper` requests little, and accepts more
        self._remaining_bytes -= len(data)
        self._position += len(data)
        if self._remaining_bytes < 0:
            raise csv.Error(f"it is larger than {MAX_ROW_BYTES >> 20} MiB")
        return data


class _ZipPackage(Package):
    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO) -> None:
        self._archive, self._file = archive, file
        self._entries = [(entry_path(entry), entry) for entry in archive.infolist()]
        self._by_path = dict(self._entries)
        super().__init__(PackageLayout([path for path, _ in self._entries], "ZIP"))

    def open_raw(self, name: str) -> IO[bytes]:
        return self._archive.open(self._by_path[self._layout.files[name]])

    def size(self, name: str) -> int:
        return self._by_path[self._layout.files[name]].file_size

    def place(self, name: str) -> FilePlace:
        return FilePlace(self._file.fileno(), self._archive.infolist().index(self._by_path[self._layout.files[name]]))

    def check_limits(self, limits: ArchiveLimits) -> Iterator[ImportProblem]:
        if not self._archive.infolist():
            yield ImportProblem("empty_package", "the ZIP file is empty", "Export the package again.")
        yield from _total_errors(len(self._entries), "ZIP")
        files = {path for name, path in self._layout.files.items() if _is_csv_file(name)}  # the others are not read
        entries = [entry for path, entry in self._entries if path in files]
        yield from _count_errors(len(entries), limits)
        yield from _size_errors(sum(entry.file_size for entry in entries), limits)
        misplaced = [entry for path, entry in self._entries if path in self._layout.misplaced]
        checked = (*entries[: limits.entries], *misplaced[: limits.entries])
        errors = list(self._entry_errors(checked, limits))
        yield from _once_per_message(errors) if errors else self._layout.errors()
        if not errors and not all(map(self._has_header, entries[: limits.entries])):
            yield misplaced_entry(self._file)

    def _has_header(self, entry: zipfile.ZipInfo) -> bool:
        """Return True if the entry begins where it should. Otherwise bytes were lost or added before it."""
        if entry.header_offset < 0:
            return False
        self._file.seek(entry.header_offset)
        return self._file.read(len(ZIP_START)) == ZIP_START

    def _entry_errors(self, entries: Sequence[zipfile.ZipInfo], limits: ArchiveLimits) -> Iterator[ImportProblem]:
        previous: set[str] = set()
        for entry in entries:
            path = entry_path(entry)
            if error := entry_error(entry, limits.ratio, is_repeated=path in previous):
                yield error
            previous.add(path)


class _FolderPackage(Package):
    """Package in an open folder. Each file is opened once, so that a link in its place is never followed."""

    def __init__(self, folder: int, stack: contextlib.ExitStack) -> None:
        self._paths = sorted(itertools.islice(_paths_below(folder), MAX_TOTAL_ENTRIES + 1))
        super().__init__(PackageLayout(self._paths, "folder", ""))
        self._folder, self._stack = folder, stack
        self._descriptors: dict[str, int] = {}

    def open_raw(self, name: str) -> IO[bytes]:
        return io.BufferedReader(DescriptorReader(self._descriptors[self._layout.files[name]]))

    def size(self, name: str) -> int:
        return os.fstat(self._descriptors[self._layout.files[name]]).st_size

    def place(self, name: str) -> FilePlace:
        return FilePlace(self._descriptors[self._layout.files[name]], None)

    def check_limits(self, limits: ArchiveLimits) -> Iterator[ImportProblem]:
        yield from _total_errors(len(self._paths), "folder")
        names = [name for name in self._layout.files if _is_csv_file(name)]  # the others are not opened
        yield from _count_errors(len(names), limits)
        for name in names[: limits.entries]:
            if error := self._open(name):
                yield error
        yield from self._layout.errors()
        yield from _size_errors(sum(os.fstat(file).st_size for file in self._descriptors.values()), limits)

    def _open(self, name: str) -> ImportProblem | None:
        """Open a file that stays open with the package. Return an error for a link, a folder or a special file."""
        special = ImportProblem(
            "not_a_file",
            "this is a link, a folder or another special file",
            "Put the file itself into the folder.",
            name,
        )
        try:
            descriptor = open_without_links(name, self._folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                return special
            return ImportProblem("unreadable", f"the file cannot be read: {_reason(error)}", PATH_HINT, name)
        self._stack.callback(os.close, descriptor)
        self._descriptors[name] = descriptor
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else special


def _paths_below(folder: int) -> Iterator[str]:
    """Yield the paths in an open folder and its subfolders, without following links. That of a folder ends with `/`."""
    for top, folders, files, _ in os.fwalk(".", dir_fd=folder):
        prefix = f"{top}/".removeprefix("./")
        yield from (prefix + name for name in files)
        # A folder in the place of a OneRoster file is an error.
        yield from (name if not prefix and name in KNOWN_FILE_NAMES else f"{prefix}{name}/" for name in folders)


class DescriptorReader(io.RawIOBase):
    """Reader of an open file from its beginning, with a position of its own. It leaves the file open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position. Its start may be the beginning, the position itself, or the end of the file."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}
        position = starts[whence] + offset
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count


@contextlib.contextmanager
def open_package(
    path: Path, limits: ArchiveLimits, problems: ImportProblems, subfolder: str = "", name: str = ""
) -> Iterator[Package]:
    """Open a package, or the one in a subfolder, and close it at the end of the block. The caller sets its `modes`.

    Problems quote `name`, by default the last name of the path. Adds errors and warnings to `problems`. Raises
    PackageRejectedError if the package cannot be read or exceeds a limit.
    """
    name = name or path.name
    with contextlib.ExitStack() as stack:
        try:
            package = _open(path, subfolder, name, stack)
            problems.extend(package.check_limits(limits))
        except OSError as error:
            message = f"{name!r} cannot be read: {_reason(error)}"
            raise PackageRejectedError(ImportProblem("unreadable", message, PATH_HINT)) from error
        problems.raise_if_errors()
        problems.extend(package.warnings())
        yield package


def _reason(error: Exception) -> str:
    """Return the message of a system error without its path, or of another error as it is."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "it is a link, or was replaced by one while it was read"
    if isinstance(error, zlib.error) or str(error).startswith("Bad CRC"):
        return f"it was damaged, as by a transfer that is not binary ({error})"
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def _open(path: Path, subfolder: str, name: str, stack: contextlib.ExitStack) -> Package:
    """Open a package until the end of the stack. Raises OSError and PackageRejectedError."""
    try:
        descriptor = open_below(path, subfolder)
    except FileNotFoundError:
        raise PackageRejectedError(
            ImportProblem("not_found", f"there is no file or folder {name!r}", PATH_HINT)
        ) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        stack.callback(os.close, descriptor)
        return _FolderPackage(descriptor, stack)
    file = stack.enter_context(os.fdopen(descriptor, "rb"))
    return _ZipPackage(stack.enter_context(_open_zip(name, file)), file)


def _open_zip(name: str, file: BinaryIO) -> zipfile.ZipFile:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or a device may have no end
        problem = ImportProblem("not_a_zip", f"{name!r} is a special file, not a ZIP file", PATH_HINT)
        raise PackageRejectedError(problem)
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):  # the third: an unknown version of ZIP
        raise PackageRejectedError(not_a_zip(name, file)) from None


def _count_errors(count: int, limits: ArchiveLimits) -> Iterator[ImportProblem]:
    if count > limits.entries:
        message = f"the package has {count} files; the limit is {limits.entries}"
        yield ImportProblem("too_many_files", message, "Remove the other files or raise import_max_entries.")


def _total_errors(count: int, container: str) -> Iterator[ImportProblem]:
    if count > MAX_TOTAL_ENTRIES:
        message = f"the {container} has more than {MAX_TOTAL_ENTRIES} entries"
        yield ImportProblem("too_many_files", message, "Remove the folders without a OneRoster file.")


def _size_errors(size: int, limits: ArchiveLimits) -> Iterator[ImportProblem]:
    if size > limits.size:
        message = f"the package unpacks to {size} bytes; the limit is {limits.size}"
        yield ImportProblem("too_large", message, "Raise import_max_mb if the package is genuine.")


def _once_per_message(errors: Iterable[ImportProblem]) -> Iterator[ImportProblem]:
    """Yield the first error of each code and message, with the number of entries that have it."""
    groups: dict[tuple[str, str], list[ImportProblem]] = {}
    for error in errors:
        groups.setdefault((error.code, error.message), []).append(error)
    for first, *others in groups.values():
        yield replace(first, message=f"{first.message} ({len(others) + 1} entries)") if others else first


def _is_csv_file(name: str) -> bool:
    return Path(name).suffix.lower() == ".csv" and not name.startswith(APPLE_DOUBLE_PREFIX)
