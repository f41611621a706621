"""Reader that checks a package row by row against the schemas and the stored roster."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from marshmallow import ValidationError

from backends import KEY, Snapshot
from chalk_flask.oneroster.csv.row_parser import InvalidRowError, ParsedRow, RowParser, header_problems, standard_names
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.id_set import IdSet
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems
from chalk_flask.roster.package.references import ReferenceChecker

__all__ = ["PackageReader", "ids_in_cycles"]

REFERENCE_TARGETS = {reference.target for resource_type in FILES.values() for reference in resource_type.references}

ROWS_PER_PROGRESS_CALL = 1000


@dataclass
class PackageReader:
    """Parser of the files of a package, in one pass. Collects the problems of all checks in `problems`.

    `stored` is a snapshot of the roster. `progress` is called with the name of the file and the row number.
    Not thread-safe.
    """

    package: Package
    stored: Snapshot
    problems: ImportProblems
    map_enrollment_roles: bool = False
    progress: Callable[[str, int], None] | None = None
    ids: dict[str, IdSet] = field(default_factory=dict)
    """The ids of each file that was read."""
    row_counts: dict[str, int] = field(default_factory=dict)
    """Number of records of each file that was read."""
    active_after: dict[str, dict[str, bool]] = field(init=False)
    """For each delta file, True by id if the record is active after the import."""
    _incomplete: set[str] = field(default_factory=set)
    """Files that could not be read to their end. References to them are not checked, because some ids are missing."""
    _row_number: int = 0
    """Number of the last row that was read. The header is row 1, and blank lines count."""

    def __post_init__(self) -> None:
        self.active_after = {name: {} for name, mode in self.package.modes.items() if mode == "delta"}
        self.references = ReferenceChecker(self.package, self.stored, self.ids, self.active_after, self._incomplete)

    def parse_file(self, name: str) -> Iterator[ParsedRow]:
        """Yield the valid rows of a data file. Errors of the others go to `problems`."""
        resource_type = FILES[name]
        self.ids[name] = IdSet(exact=name in REFERENCE_TARGETS)
        self.row_counts[name] = 0
        self._row_number = 0
        try:
            with self.package.open_text(f"{name}.csv", lambda: self._row_number) as text:
                lines = csv.reader(text, strict=True)
                if parser := self._make_parser(resource_type, next(lines, None)):
                    rows = self._parse_rows(resource_type, parser, lines)
                    yield from _record_state(rows, self.active_after[name]) if parser.delta else rows
                    self.problems.extend(_file_warnings(resource_type, parser))
        except csv.Error as error:
            self._incomplete.add(name)
            self.problems.add(self._csv_error(name, str(error)))
        except UnreadableFileError as error:
            self._incomplete.add(name)
            message = f"the file cannot be read: {error}"
            self.problems.add(ImportProblem("unreadable", message, "Export the package again.", file=f"{name}.csv"))
        self.problems.extend(self._repeated_id_errors(resource_type))
        self.problems.extend(self.references.pending_errors(name))

    def release_ids(self) -> None:
        """Release the memory of all ids, before the changes are written."""
        self.ids.clear()
        self.references.release_ids()
        self.active_after.clear()

    def row_ids(self, resource_type: ResourceType) -> Iterator[tuple[int, str]]:
        """Read a file again, and yield the row number and id of each record."""
        self._row_number = 0
        with (
            contextlib.suppress(csv.Error, UnreadableFileError),  # reported when the file was read first
            self.package.open_text(f"{resource_type.name}.csv", lambda: self._row_number) as text,
        ):
            lines = csv.reader(text, strict=True)
            index = standard_names(resource_type, next(lines)).index("sourcedId")
            for number, row in enumerate(lines, 2):
                self._row_number = number
                if len(row) > index:
                    yield number, row[index]

    def _make_parser(self, resource_type: ResourceType, header: list[str] | None) -> RowParser | None:
        """Return the parser of a file, or None if its header has an error."""
        errors_before = self.problems.total
        self.problems.extend(_header_problems(resource_type, header))
        if header is None or self.problems.total > errors_before:
            self._incomplete.add(resource_type.name)
            return None
        map_enrollment_roles = self.map_enrollment_roles and resource_type.name == "enrollments"
        return RowParser(resource_type, header, map_enrollment_roles, resource_type.name in self.active_after)

    def _parse_rows(
        self, resource_type: ResourceType, parser: RowParser, lines: Iterator[list[str]]
    ) -> Iterator[ParsedRow]:
        checks = self.references.checks(resource_type)
        add_id, parse, progress = self.ids[resource_type.name].add, parser.parse, self.progress
        self._row_number = 1
        blank_lines = 0
        for number, row in enumerate(lines, 2):
            self._row_number = number
            if progress and number % ROWS_PER_PROGRESS_CALL == 0:
                progress(resource_type.name, number)
            if not row:
                blank_lines += 1
                continue
            try:
                parsed = parse(row)
            except (InvalidRowError, ValidationError):
                self.problems.extend(_row_errors(resource_type, parser, number, row))
                if key := parser.key(row):
                    add_id(key)
                continue
            key, _, values, encoded = parsed
            if not add_id(key):
                self.problems.add(_repeated_id(resource_type, number, key))
            for path, valid_ids, check_others in checks if encoded else ():  # a row that deletes refers to nothing
                value = values.get(path, key if path == KEY else None)
                if value is not None and value not in valid_ids:
                    self.problems.extend(check_others(value, number, values["status"] == ACTIVE))
            yield parsed
        self.row_counts[resource_type.name] = self._row_number - 1 - blank_lines

    def _repeated_id_errors(self, resource_type: ResourceType) -> Iterator[ImportProblem]:
        if hashes := self.ids[resource_type.name].sort():
            for number, key in IdSet.repeated_rows(self.row_ids(resource_type), hashes):
                yield _repeated_id(resource_type, number, key)

    def _csv_error(self, name: str, message: str) -> ImportProblem:
        file, row = f"{name}.csv", self._row_number + 1
        if "field larger" in message:
            hint = "Raise import_max_field_kb if the cell is genuine."
            return ImportProblem("too_large_cell", "a cell is longer than the limit", hint, file, row)
        hint = "Quote cells that contain quotes or line breaks."
        return ImportProblem("bad_csv", f"the row is not CSV: {message}", hint, file, row)


def _header_problems(resource_type: ResourceType, header: list[str] | None) -> Iterator[ImportProblem]:
    file = f"{resource_type.name}.csv"
    if header is None:
        hint = "Write the header row, or declare the file as absent in manifest.csv."
        yield ImportProblem("empty_file", "the file is empty", hint, file)
        return
    for error in header_problems(resource_type, header):
        row = None if error.is_warning else 1
        yield ImportProblem(error.code, error.message, error.hint, file, row, error.column, is_warning=error.is_warning)


def _row_errors(resource_type: ResourceType, parser: RowParser, number: int, row: list[str]) -> Iterator[ImportProblem]:
    error = None
    for error in parser.problems_in(row):
        file = f"{resource_type.name}.csv"
        yield ImportProblem(error.code, error.message, error.hint, file, number, error.column, error.value)
    if error is None:
        raise AssertionError(
            f"row {number} of {resource_type.name} is invalid, but RowParser.problems_in yields nothing"
        )


def _repeated_id(resource_type: ResourceType, row: int, key: str) -> ImportProblem:
    message, hint = "the sourcedId occurs in an earlier row too", "Use a unique sourcedId or remove one of the rows."
    return ImportProblem("repeated_id", message, hint, f"{resource_type.name}.csv", row, "sourcedId", key)


def _file_warnings(resource_type: ResourceType, parser: RowParser) -> Iterator[ImportProblem]:
    file = f"{resource_type.name}.csv"
    if parser.rows_with_state and not parser.delta:
        yield ImportProblem(
            "filled_state",
            f"{parser.rows_with_state} rows of a bulk file have a status or dateLastModified",
            "The status was used and the date ignored. The standard leaves both blank.",
            file,
            is_warning=True,
        )
    for column, codes in parser.local_codes.items():
        message = f"{len(codes)} codes are not on the list of the standard"
        yield ImportProblem("local_code", message, "They were stored.", file, column=column, is_warning=True)


def _record_state(rows: Iterator[ParsedRow], active_after: dict[str, bool]) -> Iterator[ParsedRow]:
    """Yield the rows of a delta file, and store their state in `active_after`: True if the record is active."""
    for row in rows:
        active_after[row.key] = row.values["status"] == ACTIVE
        yield row


def ids_in_cycles(parents: Mapping[str, str]) -> Sequence[str]:
    """Return the ids that are their own ancestors. `parents` maps each id to the id of its parent."""
    in_cycles: list[str] = []
    state: dict[str, int] = {}  # 1: on the current path, 2: done
    for start in parents:
        path, key = [], start
        while key in parents and key not in state:
            state[key] = 1
            path.append(key)
            key = parents[key]
        if state.get(key) == 1:
            in_cycles += path[path.index(key) :]
        state.update(dict.fromkeys(path, 2))
    return in_cycles
