"""Messages between the importing process and the parser process."""

from __future__ import annotations

import io
import marshal
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple, Self, TypeAlias, cast

import orjson

from chalk_flask.oneroster.csv.row_parser import ParsedRecord
from chalk_flask.roster.package.archive import ArchiveLimits, DescriptorReader, FilePlace, Package
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.roster.package.layout import PackageLayout
from chalk_flask.roster.package.problems import ImportProblem

__all__ = [
    "BatchEnd",
    "ParseRequest",
    "ReceivedRow",
    "RowBatch",
    "SharedFile",
    "SharedPackage",
    "read_batch",
    "write_batch",
]

_HEADER = struct.Struct("<I")
"""Header of a batch: its length in bytes."""

ReceivedRow: TypeAlias = ParsedRecord | list[str]
"""Valid row as the parser returns it, or the cells of an invalid row."""

BatchEnd: TypeAlias = Literal["", "end", "csv", "unreadable"]
"""Reason why the rows of a file end after a batch: no error, or the kind of the error. Empty if more batches follow."""


class SharedFile(NamedTuple):
    """File for the parser process: the place of its bytes, its unpacked size in bytes, and its mode."""

    place: FilePlace
    size: int
    mode: str


@dataclass(frozen=True)
class ParseRequest:
    """Request for the rows of files: files by name in order, reading options, and maximum size of a cell in bytes."""

    files: Mapping[str, SharedFile]
    options: ReadingOptions
    strict: bool
    max_cell_bytes: int

    def encode(self) -> bytes:
        """Return the JSON that the parser process reads."""
        options = vars(self.options) | {"role_map": dict(self.options.role_map)}
        files = [(name, *file.place, file.size, file.mode) for name, file in self.files.items()]
        return orjson.dumps([files, options, self.strict, self.max_cell_bytes])

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return the request that `encode` wrote."""
        files, options, strict, max_cell_bytes = orjson.loads(content)
        shared = {name: SharedFile(FilePlace(*place), size, mode) for name, *place, size, mode in files}
        return cls(shared, ReadingOptions(**options), strict, max_cell_bytes)


class SharedPackage(Package):
    """Package with the files of a request, whose descriptors the parser process has inherited."""

    def __init__(self, request: ParseRequest) -> None:
        self._files = {f"{name}.csv": file for name, file in request.files.items()}
        super().__init__(PackageLayout(list(self._files), "package", ""))

    def open_raw(self, name: str) -> IO[bytes]:
        """Return a byte stream of a file."""
        descriptor, entry = self._files[name].place
        stream = io.BufferedReader(DescriptorReader(descriptor))
        if entry is None:
            return stream
        archive = zipfile.ZipFile(stream)
        return archive.open(archive.infolist()[entry])

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, unpacked."""
        return self._files[name].size

    def place(self, name: str) -> FilePlace:
        """Return the place of the bytes of a file."""
        return self._files[name].place

    def check_limits(self, limits: ArchiveLimits) -> Iterator[ImportProblem]:
        """Return no errors, because the importing process has checked the limits."""
        return iter(())


class RowBatch(NamedTuple):
    """Consecutive rows of a file.

    `position` is the number of bytes of the file that were read. The last batch has the message of the error that ended
    the file, if any. Its `statistics` are the values of a `RowStatistics` for all rows, or empty if the header is
    invalid.
    """

    name: str
    rows: list[ReceivedRow]
    position: int
    end: BatchEnd = ""
    message: str = ""
    statistics: tuple[Any, ...] = ()


def write_batch(stream: IO[bytes], batch: RowBatch) -> None:
    """Write a batch. Raises OSError."""
    packed = marshal.dumps(tuple(batch))
    stream.write(_HEADER.pack(len(packed)))
    stream.write(packed)
    stream.flush()


def read_batch(stream: IO[bytes]) -> RowBatch | None:
    """Return the next batch, or None if the stream has ended."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack(header)
    packed = stream.read(length)
    return RowBatch(*cast("tuple[Any, ...]", marshal.loads(packed))) if len(packed) == length else None
