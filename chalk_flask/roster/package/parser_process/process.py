"""Start of the parser process, and the rows that it returns."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Final

from backends import Closeable
from chalk_flask.background.python_program import python_command
from chalk_flask.oneroster.csv.row_parser import RowStatistics
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.data_file import DataFile, ReadingOptions, Row
from chalk_flask.roster.package.parser_process.messages import (
    ParseRequest,
    ReceivedRow,
    RowBatch,
    SharedFile,
    read_batch,
)

__all__ = ["ParserProcess", "ParserProcessError", "ProcessEndedError"]

MIN_FILE_BYTES: Final = 16 << 20
"""Size from which the parser process parses a file. The start of the process takes as long as a few megabytes."""

PIPE_BYTES: Final = 1 << 20
"""Maximum size of the batches that wait for the importing process, as far as the system allows."""


class ParserProcessError(OSError):
    """Error of an import whose parser process has ended too early. Nothing was written."""


class ProcessEndedError(Exception):
    """Error of a parser process that has ended too early. It is no OSError, which would be an error of the file."""


class ParserProcess(Closeable):
    """Process that parses the large files of a package. Not thread-safe. `close` ends it."""

    def __init__(self, process: subprocess.Popen[bytes], stream: IO[bytes], names: Sequence[str]) -> None:
        self._process, self._stream, self._names = process, stream, names

    @classmethod
    def start(cls, package: Package, options: ReadingOptions, *, strict: bool) -> ParserProcess | None:
        """Start the process. Return None if no file is large, if there is one core, or if the process cannot start."""
        files = {
            name: SharedFile(package.place(f"{name}.csv"), package.size(f"{name}.csv"), package.modes[name])
            for name in package.data_files()
            if _is_parsed(package, name)
        }
        if not files or core_count() == 1:
            return None
        request = ParseRequest(files, options, strict, csv.field_size_limit())
        try:
            process = start_process(request)
        except OSError:
            return None  # for example, the limit of processes is reached
        assert process.stdout is not None
        return cls(process, process.stdout, list(files))

    def parses(self, name: str) -> bool:
        """Return True if the process parses this file."""
        return name in self._names

    def read(self, file: DataFile) -> tuple[Iterator[ReceivedRow], Callable[[ReceivedRow], Row]]:
        """Return the rows of a file, and the function that converts or parses them.

        Read the files in the order of FILES. The iterator raises csv.Error, UnreadableFileError and ProcessEndedError.
        """
        rows, parse = _ReceivedRows(self._batches(file.resource_type.name), file), file.parse_function()
        return iter(rows), lambda row: row if isinstance(row, tuple) else parse(row)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._stream.close()
        self._process.wait()

    def _batches(self, name: str) -> Iterator[RowBatch]:
        """Yield the batches of a file, and skip those of files that were not read."""
        while batch := read_batch(self._stream):
            if batch.name == name:
                yield batch
                if batch.end:
                    return
        raise ProcessEndedError(self._failure(name))

    def _failure(self, name: str) -> str:
        code = self._process.wait()
        reason = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"the process that parses {name}.csv {reason}: nothing was written, import the package again"


class _ReceivedRows:
    """Rows of the batches of one file. It adds their statistics to the parser of the file."""

    def __init__(self, batches: Iterator[RowBatch], file: DataFile) -> None:
        self._batches, self._file, self._position = batches, file, 0
        file.follow(self)

    def tell(self) -> int:
        """Return the number of bytes of the file that were read."""
        return self._position

    def __iter__(self) -> Iterator[ReceivedRow]:
        for batch in self._batches:
            self._position = batch.position
            yield from batch.rows
            if batch.statistics:
                self._file.parser.add_statistics(RowStatistics(*batch.statistics))
            if batch.end == "csv":
                raise csv.Error(batch.message)
            if batch.end == "unreadable":
                raise UnreadableFileError(batch.message)


def start_process(request: ParseRequest) -> subprocess.Popen[bytes]:
    """Start the process and send it the request. Raises OSError."""
    descriptors = {file.place.descriptor for file in request.files.values()}
    # In a session of its own, the process does not receive Ctrl-C, and ends when its caller does.
    process = subprocess.Popen(
        python_command("chalk_flask.roster.package.parser_process.program"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(request.encode())
    return process


def _is_parsed(package: Package, name: str) -> bool:
    """Return True if the parser process parses a file: it is large and has no derived fields.

    Rows of files with derived fields contain objects, which a batch cannot transfer.
    """
    is_listed = package.modes.get(name) in ("bulk", "delta") and not FILES[name].derived_fields
    return is_listed and package.size(f"{name}.csv") >= MIN_FILE_BYTES


def core_count() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
