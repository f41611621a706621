"""Data file of a package: its format, its header and its rows, read by the rules of `ReadingOptions`."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, cast

from chalk_flask.oneroster.csv.diagnosis import UNNAMED_COLUMN
from chalk_flask.oneroster.csv.file_format import (
    COMMA,
    DELIMITER_NAMES,
    FormatProblem,
    find_damage,
    find_delimiter,
    find_problem,
)
from chalk_flask.oneroster.csv.header import (
    header_problems,
    missing_optional_columns,
    standard_names,
    with_standard_case,
)
from chalk_flask.oneroster.csv.row_parser import ParsedRecord, ParsedRow, RowParser, is_not_stored
from chalk_flask.oneroster.csv.row_repair import RowRepair, decode_windows_1252, with_comma_lists
from chalk_flask.oneroster.csv.tolerances import DELIMITER, HEADER_CASE, MISSING_COLUMN, WINDOWS_1252, Tolerance
from chalk_flask.oneroster.csv.windows_1252 import has_utf8_letters
from chalk_flask.oneroster.fields.scalars import ERROR_VALUE, NULL_WORD
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import GRADES
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, count_of
from chalk_flask.roster.package.problems_by_cause import RowProblems

__all__ = ["DataFile", "ReadingOptions", "Row", "SupportsTell", "delimiter_problem", "tolerance_warning"]

Row: TypeAlias = ParsedRow | ParsedRecord
"""Valid row of a file. Only rows of a file with derived fields have a body as an object."""

TOLERATED_DELIMITERS = (COMMA, ";", "\t")
PART_CHARACTERS = 1 << 16
STORED_HINT = "They were stored."
PLACEHOLDER_WARNINGS = {
    ERROR_VALUE: ("error_value", "Correct the formulas."),
    NULL_WORD: ("null_word", "Leave cells without a value empty."),
}
"""Code and remedy of the warning about each kind of placeholder."""
LENIENT_HINT = "Export it with commas, or use lenient reading (--lenient)."


@dataclass(frozen=True)
class ReadingOptions:
    """Rules for reading a package.

    With `lenient` the deviations of the table TOLERANCES are accepted. `map_enrollment_roles` and `role_map` replace
    unknown roles, see `RowRepair`. With `is_standalone` there is no stored roster: only references to files that the
    package has in full are checked.
    """

    lenient: bool = False
    map_enrollment_roles: bool = False
    role_map: Mapping[str, str] = field(default_factory=dict)
    is_standalone: bool = False


class SupportsTell(Protocol):
    """Stream that knows its position."""

    def tell(self) -> int:
        """Return the number of bytes that were read."""


class DataFile:
    """CSV file of one resource type. The constructor reads its first bytes to find out the format.

    `read_header` sets `parser` and `repair`.
    """

    parser: RowParser
    repair: RowRepair
    _size: int
    _stream: SupportsTell

    def __init__(
        self,
        package: Package,
        resource_type: ResourceType,
        options: ReadingOptions,
        problems: ImportProblems,
        *,
        delta: bool,
        strict: bool = False,
        is_stored: Callable[[str], bool] = is_not_stored,
    ) -> None:
        self.name = f"{resource_type.name}.csv"
        self.resource_type = resource_type
        self.row_problems = RowProblems(self.name, problems)
        self.blank_lines = 0
        self.empty_rows = 0
        """Number of rows whose cells are all empty, as a spreadsheet leaves them."""
        self._last_empty_row = self._last_filled_row = 0
        self._package = package
        self._options = options
        self._delta = delta
        self._strict = strict
        self._is_stored = is_stored
        self._added_columns: list[str] = []
        self._unnamed_column: ImportProblem | None = None
        self._warnings: list[ImportProblem] = []
        """Warnings about tolerated deviations of the format and of the header."""
        head = package.read_head(self.name)
        if damage := find_damage(head):
            self._warnings.append(ImportProblem(*damage, self.name, is_warning=True))
        self._delimiter = find_delimiter(head, (column.header for column in resource_type.columns))
        self.error = find_problem(head) or delimiter_problem(self._delimiter, lenient=options.lenient)
        """Error because of which the file cannot be read."""

    @contextlib.contextmanager
    def open(self, row_number: Callable[[], int]) -> Iterator[Iterator[list[str]]]:
        """Yield the rows as they are in the file, header first. Raises csv.Error and UnreadableFileError."""
        with self._package.open_text(self.name, row_number) as text:
            self._size, self._stream = self._package.size(self.name), cast(SupportsTell, text.buffer)
            yield csv.reader(text, delimiter=self._delimiter, strict=True)

    @property
    def position(self) -> int:
        """Number of bytes of the open file that were read."""
        return self._stream.tell()

    def follow(self, stream: SupportsTell) -> None:
        """Let `position` return that of another reader of the file."""
        self._stream = stream

    def expected_rows(self, row: int) -> int | None:
        """Return the estimated number of rows of the open file, from the bytes up to this row; None if unknown."""
        read = self.position
        return row * self._size // read if read else None

    def read_header(self, header: list[str] | None) -> Iterator[ImportProblem]:
        """Yield the errors and warnings about the file as a whole and its header, which is None if it is missing."""
        if self.error:
            yield ImportProblem(*self.error, self.name)
            return
        if header is None:
            hint = "Write the header row, or declare the file as absent in manifest.csv."
            yield ImportProblem("empty_file", "the file is empty", hint, self.name)
            return
        names = self._tolerant_names(header) if self._options.lenient else header
        optional = self._missing_columns(names)
        has_error = False
        for code, message, hint, column, is_warning in header_problems(self.resource_type, names, frozenset(optional)):
            has_error |= not is_warning
            row = None if is_warning else 1
            problem = ImportProblem(code, message, hint, self.name, row, column, is_warning=is_warning)
            if code == "unnamed_column":
                self._unnamed_column = problem  # the rows decide whether it is an error
            else:
                yield problem
        if not has_error:
            self._set_columns(names, optional)

    def _set_columns(self, names: list[str], added: list[str]) -> None:
        if added:
            self._warn(MISSING_COLUMN, f"{count_of(len(added), 'column')} missing: {', '.join(added)}")
        self._added_columns = added
        options, columns = self._options, [*names, *added]
        self.parser = RowParser(
            self.resource_type, columns, self._delta, self._is_utf8, options.lenient, self._strict, self._is_stored
        )
        self.repair = RowRepair(
            self.resource_type,
            columns,
            options.lenient,
            options.role_map,
            options.map_enrollment_roles,
            self._is_utf8,
            delta=self._delta,
        )

    @cached_property
    def _has_utf8_letters(self) -> bool:
        numbers = itertools.count()  # the limit of a row applies to each part that is read
        with self._package.open_text(self.name, lambda: next(numbers)) as text:
            return has_utf8_letters(iter(lambda: text.read(PART_CHARACTERS), ""))

    def _is_utf8(self) -> bool:
        """Return True if the file has letters beyond ASCII in valid UTF-8. The first call reads the whole file."""
        return self._has_utf8_letters

    def _missing_columns(self, names: Sequence[str]) -> list[str]:
        if not self._options.lenient:
            return []
        return missing_optional_columns(self.resource_type, names, delta=self._delta)

    def _tolerant_names(self, header: list[str]) -> list[str]:
        if self._delimiter != COMMA:
            self._warn(DELIMITER, f"the file is separated by {DELIMITER_NAMES[self._delimiter]}")
        decoded = decode_windows_1252(header, self._is_utf8)
        if decoded is not header:
            self._warn(WINDOWS_1252, f"the header: {WINDOWS_1252.deviation}")
        names = with_standard_case(self.resource_type, decoded)
        if other_case := [old for old, new in zip(decoded, names, strict=True) if old.strip() != new.strip()]:
            self._warn(HEADER_CASE, f"{count_of(len(other_case), 'column')}: {', '.join(other_case)}")
        return names

    def _warn(self, tolerance: Tolerance, message: str) -> None:
        self._warnings.append(tolerance_warning(tolerance, message, self.name))

    def rows(self, lines: Iterator[list[str]]) -> Iterator[list[str]]:
        """Return the rows after the header, with a cell for each column and with commas in lists."""
        if added := len(self._added_columns):
            lines = _with_empty_cells(lines, len(self.parser.header) - added, added)
        return with_comma_lists(self.resource_type, self.parser.header, lines) if self._delimiter == ";" else lines

    def parse_function(self) -> Callable[[list[str]], Row]:
        """Return the function that parses a row. Only rows of a file with derived fields need a body as an object."""
        return self.parser.parse if self.resource_type.derived_fields else self.parser.parse_record

    def statistics(self) -> tuple[Any, ...]:
        """Return the values of `RowParser.statistics`; nothing if the header is invalid."""
        return tuple(self.parser.statistics()) if hasattr(self, "parser") else ()

    def ids(self, lines: Iterator[list[str]]) -> Iterator[tuple[int, str]]:
        """Yield row number and id of each row of a file that is read again, header first."""
        next(lines)
        index = standard_names(self.resource_type, self.parser.header).index("sourcedId")
        for number, row in enumerate(lines, 2):
            if len(row) > index:
                yield number, self.repair.repair_id(row[index])

    def count_empty_row(self, number: int, row: list[str]) -> None:
        """Count a row whose cells are all empty, or a blank line."""
        self.skip_row(number)
        self.blank_lines += not row
        self.empty_rows += bool(row)

    def skip_row(self, number: int) -> None:
        """Note that a row is empty, or a message of the exporting program, so that it is not the last record."""
        if self._last_empty_row != number - 1:
            self._last_filled_row = number - 1
        self._last_empty_row = number

    def last_row(self, number: int) -> int:
        """Return the number of the last row that may be a record, after all rows up to this number were read."""
        return self._last_filled_row if self._last_empty_row == number else number

    def warnings(self) -> Iterator[ImportProblem]:
        """Yield the warnings about tolerated deviations and about the rows, once the file was read."""
        yield from self._warnings
        for tolerance, count in self.repair.counts.items():
            if count:
                yield tolerance_warning(tolerance, f"{count_of(count, 'row')}: {tolerance.deviation}", self.name)
        if self.repair.mapped_roles:
            rows = count_of(self.repair.mapped_roles, "row")
            message = f"{rows} with a role that the operator maps by the setting import_role_map"
            yield ImportProblem("mapped_role", message, "The role was replaced.", self.name, None, "role", None, True)
        yield from self._row_warnings()

    def _row_warnings(self) -> Iterator[ImportProblem]:
        parser = self.parser
        if self._unnamed_column and not self.row_problems.has("bad_row", UNNAMED_COLUMN):
            yield self._unnamed_column
        if self.empty_rows:
            message = f"{count_of(self.empty_rows, 'row')} of empty cells"
            hint = "They were ignored. Delete them in the spreadsheet."
            yield ImportProblem("empty_rows", message, hint, self.name, is_warning=True)
        if parser.rows_with_status_or_date and not self._delta:
            invalid = parser.rows_with_invalid_date
            message = (
                f"{count_of(parser.rows_with_status_or_date, 'row')} of a bulk file with a status or dateLastModified"
            )
            message += f", {invalid} with an invalid date" if invalid else ""
            hint = "The status was used and the date ignored. The standard leaves both blank."
            yield ImportProblem("filled_state", message, hint, self.name, is_warning=True)
        yield from self._placeholder_warnings()
        for column, codes in sorted(parser.local_codes.items()):
            message = f"{count_of(len(codes), 'code')} not on the list of the standard"
            has_lost_zeros = any(code.isdigit() and code.zfill(2) in GRADES for code in codes)
            hint = "They were stored. A spreadsheet may have removed leading zeros." if has_lost_zeros else STORED_HINT
            yield ImportProblem("local_code", message, hint, self.name, column=column, is_warning=True)

    def _placeholder_warnings(self) -> Iterator[ImportProblem]:
        for column, kind, count, example in self.parser.placeholders.summaries():
            code, remedy = PLACEHOLDER_WARNINGS[kind]
            message = f"{count_of(count, 'cell')} with {kind}, such as {example}"
            yield ImportProblem(code, message, f"{STORED_HINT} {remedy}", self.name, column=column, is_warning=True)


def delimiter_problem(delimiter: str, *, lenient: bool) -> FormatProblem | None:
    """Return the error of a file with another delimiter, unless lenient reading accepts it."""
    if delimiter == COMMA or (lenient and delimiter in TOLERATED_DELIMITERS):
        return None
    message = f"the file is separated by {DELIMITER_NAMES[delimiter]}, not by commas"
    hint = LENIENT_HINT if delimiter in TOLERATED_DELIMITERS else "Export it with commas."
    return FormatProblem("wrong_delimiter", message, hint)


def tolerance_warning(tolerance: Tolerance, message: str, file: str | None) -> ImportProblem:
    """Return the warning that a deviation was accepted."""
    hint = f"{tolerance.effect} ({tolerance.id})."
    return ImportProblem(tolerance.code, message.replace("`", ""), hint, file, is_warning=True)


def _with_empty_cells(rows: Iterator[list[str]], length: int, added: int) -> Iterator[list[str]]:
    """Yield the rows, with empty cells at the end of those that have the length of the header."""
    for row in rows:
        yield row + [""] * added if len(row) == length else row
