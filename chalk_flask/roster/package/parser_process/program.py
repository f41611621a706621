"""Program of the parser process. It reads a `ParseRequest` from stdin, and writes batches to stdout."""

from __future__ import annotations

import csv
import gc
import os
import sys
from collections.abc import Iterator
from typing import IO

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.data_file import DataFile
from chalk_flask.roster.package.parser_process.messages import (
    BatchEnd,
    ParseRequest,
    ReceivedRow,
    RowBatch,
    SharedPackage,
    write_batch,
)
from chalk_flask.roster.package.problems import ImportProblems

__all__ = ["main", "parse_files"]

BATCH_ROWS = 250

MAX_INVALID_CHARACTERS = 1 << 20
"""Number of characters of invalid rows above which a batch is sent. A row may have megabytes."""


def main() -> None:
    """Parse the files that stdin requests. End without a message if the importing process has ended."""
    gc.disable()  # as in the importing process
    request = ParseRequest.decode(sys.stdin.buffer.read())
    csv.field_size_limit(request.max_cell_bytes)
    try:
        parse_files(request, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(1)


def parse_files(request: ParseRequest, stream: IO[bytes]) -> None:
    """Write the batches of all requested files. Raises OSError if they cannot be written."""
    package = SharedPackage(request)
    for name in request.files:
        _FileParser(request, package, name, stream).run()


class _FileParser:
    """Parser of one file, which writes batches to a stream."""

    def __init__(self, request: ParseRequest, package: Package, name: str, stream: IO[bytes]) -> None:
        self._name, self._stream = name, stream
        # The importing process reads the header too, and collects its problems.
        is_delta, problems = request.files[name].mode == "delta", ImportProblems()
        self._file = DataFile(package, FILES[name], request.options, problems, delta=is_delta, strict=request.strict)
        self._row_number = 0
        self._rows: list[ReceivedRow] = []

    def run(self) -> None:
        """Write the rows of the file, and the reason why they end."""
        end: BatchEnd = "end"
        message = ""
        try:
            with self._file.open(lambda: self._row_number) as lines:
                if self._has_valid_header(lines):
                    self._parse(lines)
        except csv.Error as error:
            end, message = "csv", str(error)
        except UnreadableFileError as error:
            end, message = "unreadable", str(error)
        self._send(end, message)

    def _has_valid_header(self, lines: Iterator[list[str]]) -> bool:
        header = None if self._file.error else next(lines, None)
        return all(problem.is_warning for problem in self._file.read_header(header))

    def _parse(self, lines: Iterator[list[str]]) -> None:
        parse, self._row_number, invalid_characters = self._file.parser.parse_record, 1, 0
        for row in self._file.rows(lines):
            self._row_number += 1
            try:
                self._rows.append(parse(row))
            except Exception:  # noqa: BLE001 - the importing process parses the row again, and handles the error
                self._rows.append(row)
                invalid_characters += sum(map(len, row))
            if len(self._rows) == BATCH_ROWS or invalid_characters > MAX_INVALID_CHARACTERS:
                self._send()
                invalid_characters = 0

    def _send(self, end: BatchEnd = "", message: str = "") -> None:
        statistics = self._file.statistics() if end else ()
        write_batch(self._stream, RowBatch(self._name, self._rows, self._file.position, end, message, statistics))
        self._rows = []
