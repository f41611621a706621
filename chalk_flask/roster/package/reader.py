"""Reader that checks a package row by row against the schemas and the stored roster."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, cast

from marshmallow import ValidationError

from backends import KEY, OnProgress, Snapshot, Value
from chalk_flask.id_set import IdSet
from chalk_flask.oneroster.csv.diagnosis import ROUNDED_HINT, CellProblem, is_rounded
from chalk_flask.oneroster.csv.row_parser import InvalidRowError
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.consistency import ConsistencyChecker
from chalk_flask.roster.package.data_file import DataFile, ReadingOptions, Row
from chalk_flask.roster.package.parser_process import ParserProcess, ParserProcessError, ProcessEndedError
from chalk_flask.roster.package.parser_process.messages import ReceivedRow
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, count_of
from chalk_flask.roster.package.quarantine import STRUCTURAL_CODES, Quarantine
from chalk_flask.roster.package.references import DanglingRows, ReferenceChecker

__all__ = ["PackageReader", "ids_in_cycles"]

_UnparsedRows: TypeAlias = "tuple[Iterator[ReceivedRow], Callable[[Any], Row]]"

REFERENCE_TARGETS = {reference.target for resource_type in FILES.values() for reference in resource_type.references}

ROWS_PER_PROGRESS_CALL = 1000

REPEATED_LATER = "the sourcedId occurs in a later row too"

CAUSES_WITHOUT_RECORD = frozenset({"header", "rule", "message"})
"""Causes of invalid rows that are not records, so that no id is lost with them."""

EMPTY_CHARACTERS = " \t\r\n\xa0\x1a"
"""Characters of a row without values: blanks, and the end mark (Ctrl-Z) of old programs."""


class _InvalidRow(NamedTuple):
    """Row number, id and errors of an invalid row. `is_certain` is False if the id may be that of another record."""

    number: int
    key: str
    errors: list[CellProblem]
    is_certain: bool


@dataclass
class PackageReader:
    """Parser of the files of a package, in one pass. Collects the problems of all checks in `problems`.

    `stored` is a snapshot of the roster. The phase of `on_progress` is the name of the file. With a `quarantine`, rows
    with errors go there instead of to `problems`. With `strict`, references to the wrong type and placeholders are
    errors. Call `finish_file` for every file of the standard, in the order of FILES. Not thread-safe.
    """

    package: Package
    stored: Snapshot
    problems: ImportProblems
    options: ReadingOptions = field(default_factory=ReadingOptions)
    on_progress: OnProgress | None = None
    quarantine: Quarantine | None = None
    strict: bool = False
    ids: dict[str, IdSet] = field(default_factory=dict)
    """The ids of each file that was read."""
    row_counts: dict[str, int] = field(default_factory=dict)
    """Number of records of each file that was read."""
    active_after: dict[str, dict[str, bool]] = field(init=False)
    """For each delta file, True by id if the record is active after the import."""
    _incomplete: set[str] = field(default_factory=set)
    """Files of which some ids are unknown, for example because of an error. References to them are not checked."""
    _files: dict[str, DataFile] = field(default_factory=dict)
    _row_number: int = 0
    """Number of the last row that was read. The header is row 1, and blank lines count."""
    _short_row: _InvalidRow | None = None
    """Last row with too few cells that waits: it is quarantined unless it turns out to be the last of its file."""
    _referring: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """For each file, the ids of the rows that refer to a record of the same file, by the id of that record."""

    def __post_init__(self) -> None:
        if self.options.is_standalone:
            self._incomplete.update(name for name in FILES if self.package.modes.get(name) != "bulk")
        self.active_after = {name: {} for name, mode in self.package.modes.items() if mode == "delta"}
        self.references = ReferenceChecker(
            self.package,
            self.stored,
            self.ids,
            self.active_after,
            self._incomplete,
            self.quarantine,
        )
        self._process = ParserProcess.start(self.package, self.options, strict=self.strict)
        self.consistency = ConsistencyChecker(self.package.modes, self.stored, self.problems, strict=self.strict)

    def parse_file(self, name: str) -> Iterator[Row]:
        """Yield the valid rows of a data file. Errors of the others go to `problems`. Raises ParserProcessError."""
        resource_type = FILES[name]
        self.ids[name] = IdSet(exact=name in REFERENCE_TARGETS)
        if self.quarantine:
            self.quarantine.start_file(name, exact=name in REFERENCE_TARGETS)
        self.row_counts[name] = 0
        self._row_number, self._short_row = 0, None
        is_delta = name in self.active_after
        file = self._files[name] = DataFile(
            self.package,
            resource_type,
            self.options,
            self.problems,
            delta=is_delta,
            strict=self.strict,
            is_stored=lambda key: bool(self.stored.get_many(name, [key])),
        )
        try:
            with file.open(lambda: self._row_number) as lines:
                if self._read_header(file, lines):
                    rows = self._parse_rows(file, *self._unparsed_rows(file, lines))
                    yield from _record_state(rows, self.active_after[name]) if is_delta else rows
                    self.problems.extend(file.warnings())
                    if not file.row_problems.has("repeated_id", "sourcedId: rounded"):
                        self.problems.extend(_rounded_ids(file, self.ids[name].exact or ()))
        except csv.Error as error:
            self._incomplete.add(name)
            self.problems.add(self._csv_error(name, str(error)))
        except UnreadableFileError as error:
            self._incomplete.add(name)
            message = f"the file cannot be read: {error}"
            self.problems.add(ImportProblem("unreadable", message, "Export the package again.", file=f"{name}.csv"))
        except ProcessEndedError as error:
            raise ParserProcessError(str(error)) from error
        last_row = file.last_row(self._row_number)
        for problem in self._repeated_id_errors(resource_type):
            self.reject_yielded(name, problem, [str(problem.value)])
        file.row_problems.finish(last_row)
        if self.quarantine:
            self.quarantine.end_file(name)
            if self.quarantine.uncertain[name] and not is_delta:
                self.problems.add(_uncertain_ids(file, self.quarantine.uncertain[name]))

    def close(self) -> None:
        """End the parser process."""
        if self._process:
            self._process.close()

    def finish_file(self, name: str) -> None:
        """Check the references that were left for later. Raises RowsExcludedError.

        Before, the caller completes `active_ids` and `deleted_ids` of `references` for this file.
        """
        self._reject_dangling(self.references.finish(name))
        ids = None if name in self._incomplete else self.ids.get(name)
        has_invalid_rows = self._has_invalid_rows(name)
        for error, key in self.consistency.finish(name, ids, self.references, has_invalid_rows=has_invalid_rows):
            if key:
                self.reject_yielded(name, error, [key])
            else:
                self.problems.add(error)
        if self.quarantine:
            self._exclude_referring_rows(name)
            self.quarantine.raise_if_excluded()

    def _reject_dangling(self, dangling_rows: Iterable[DanglingRows]) -> None:
        """Reject rows with references that were decided after they were yielded; list each cause once."""
        causes: dict[tuple[str, str | None, str], tuple[ImportProblem, set[int]]] = {}
        for file, error, rows, keys in dangling_rows:
            if self.quarantine or not error.cause or error.is_follow_on:
                self.reject_yielded(file, error, keys)
            else:
                causes.setdefault((file, error.column, error.cause), (error, set()))[1].update(rows)
        for (file, *_), (error, numbers) in causes.items():
            self._files[file].row_problems.add_after_finish(error, sorted(numbers))

    def _has_invalid_rows(self, name: str) -> bool:
        if self.quarantine and self.quarantine.has_rows(name):
            return True
        return any(file == f"{name}.csv" for file, _ in self.problems.counts)

    def reject_yielded(self, name: str, error: ImportProblem, keys: Iterable[str]) -> None:
        """Quarantine the rows with these ids, which were yielded already; without quarantine, add the error."""
        if error.code == "repeated_id" and is_rounded(error.value or ""):
            self.references.targets_with_lost_ids.add(name)
        if self.quarantine is None and error.code == "repeated_id" and error.row:
            self._files[name].row_problems.extend(error.row, [error])
            return
        if self.quarantine is None:
            self.problems.add(error)
            return
        for key in keys:
            self.quarantine.exclude(name, key, error)

    def _exclude_referring_rows(self, name: str) -> None:
        """Exclude the rows of a file that refer to one of its excluded rows, transitively.

        If a version of the excluded record is stored, it stays, and rows may refer to it.
        """
        assert self.quarantine is not None
        referring = self._referring.pop(name, {})
        header = next((header for _, header in _own_references(FILES[name])), "")
        queue = set(self.quarantine.excluded(name)) if referring else set()
        while queue:
            rejected = queue - self.references.stored_active(name, queue)
            queue = set()
            for target in rejected:
                for key in referring.pop(target, ()):
                    error = self.references.dangling_reference(name, header, name, target, None)
                    if self.quarantine.exclude(name, key, error):
                        queue.add(key)

    def release_ids(self) -> None:
        """Release the memory of all ids, before the changes are written."""
        self.ids.clear()
        self.references.release_ids()
        self.active_after.clear()

    def row_ids(self, resource_type: ResourceType) -> Iterator[tuple[int, str]]:
        """Read a file again, and yield the row number and id of each record."""
        self._row_number = 0
        file = self._files[resource_type.name]
        with (
            contextlib.suppress(csv.Error, UnreadableFileError),  # reported when the file was read first
            file.open(lambda: self._row_number) as lines,
        ):
            for number, key in file.ids(lines):
                self._row_number = number
                yield number, key

    def _read_header(self, file: DataFile, lines: Iterator[list[str]]) -> bool:
        """Read the header of a file. Return False if the file or its header has an error."""
        errors_before = self.problems.total
        self.problems.extend(file.read_header(None if file.error else next(lines, None)))
        is_valid = self.problems.total == errors_before
        if not is_valid:
            self._incomplete.add(file.resource_type.name)
        return is_valid

    def _unparsed_rows(self, file: DataFile, lines: Iterator[list[str]]) -> _UnparsedRows:
        """Return the rows of a file and the function that parses one. The parser process has parsed most of them."""
        if self._process and self._process.parses(file.resource_type.name):
            return self._process.read(file)
        return file.rows(lines), file.parse_function()

    def _parse_rows(self, file: DataFile, rows: Iterator[ReceivedRow], parse: Callable[[Any], Row]) -> Iterator[Row]:
        resource_type = file.resource_type
        name, on_progress = resource_type.name, self.on_progress
        accept = self._acceptance(resource_type)
        self._row_number = 1
        for number, row in enumerate(rows, 2):
            self._row_number = number
            if on_progress and number % ROWS_PER_PROGRESS_CALL == 0:
                on_progress(name, number, file.expected_rows(number))
            try:
                parsed = parse(row)
            except (InvalidRowError, ValidationError):
                repaired = self._parse_invalid(file, number, cast("list[str]", row))
                if repaired is None:
                    continue
                parsed = repaired
            if accept(parsed, number):
                yield parsed
        self.row_counts[name] = self._row_number - 1 - file.blank_lines - file.empty_rows
        if on_progress and self.row_counts[name]:
            on_progress(name, self.row_counts[name], self.row_counts[name])
        last_row = file.last_row(self._row_number)
        self._finish_short_row(file, last_row)

    def _parse_invalid(self, file: DataFile, number: int, row: list[str]) -> Row | None:
        """Return the record of an invalid row after its repair. If it stays invalid, reject it and return None."""
        if not "".join(row).strip(EMPTY_CHARACTERS):
            file.count_empty_row(number, row)
            return None
        parser, repaired = file.parser, file.repair.repair(row)
        if repaired is not row:
            with contextlib.suppress(InvalidRowError, ValidationError):
                return file.parse_function()(repaired)
        errors = list(parser.problems_in(repaired))
        if not errors:
            raise AssertionError(f"row {number} of {file.name} is invalid, but RowParser.problems_in yields nothing")
        is_record = errors[0].cause not in CAUSES_WITHOUT_RECORD
        if is_record:
            self._finish_short_row(file)
        else:
            file.skip_row(number)
        invalid = _InvalidRow(number, parser.key(repaired), errors, not is_record or parser.is_key_certain(repaired))
        if self.quarantine and is_record and len(repaired) < len(parser.header):
            self._short_row = invalid
        else:
            self._reject_invalid(file, invalid)
        return None

    def _finish_short_row(self, file: DataFile, last_row: int = 0) -> None:
        """Quarantine the row with too few cells that waits. As the last row of its file, it rejects the package."""
        if self._short_row:
            invalid, self._short_row = self._short_row, None
            self._reject_invalid(file, invalid, is_structural=invalid.number == last_row)

    def _reject_invalid(self, file: DataFile, invalid: _InvalidRow, *, is_structural: bool = False) -> None:
        name, (number, key, errors, is_certain) = file.resource_type.name, invalid
        is_structural = is_structural or any(error.code in STRUCTURAL_CODES for error in errors)
        if self.quarantine and not is_structural:
            problems = [_row_problem(file, number, error) for error in errors]
            if is_certain:
                self.quarantine.add(name, key, problems)
            else:
                self.quarantine.add_uncertain(name, problems)
            return
        file.row_problems.add(number, errors)
        if any(error.column in (None, "sourcedId") for error in errors):
            self.references.targets_with_lost_ids.add(name)
        if key:
            self.ids[name].add(key)
            self.references.active_ids.setdefault(name, set()).add(key)

    def _acceptance(self, resource_type: ResourceType) -> Callable[[Row, int], bool]:
        """Return a function that checks a parsed row with its number. It returns False for a quarantined row."""
        name = resource_type.name
        checks, check_consistency = self.references.checks(resource_type), self.consistency.check(name)
        add_id, add_target = self.ids[name].add, self._target_adder(resource_type)
        excluded = self.quarantine.excluded(name) if self.quarantine else {}

        def accept(parsed: Row, number: int) -> bool:
            key, encoded, values = parsed[0], parsed[1], parsed[2]
            if key in excluded:
                return not self._reject(name, key, number, [_in_row(excluded[key], number)])
            is_active = values["status"] == ACTIVE
            errors: Sequence[ImportProblem] = ()
            for path, valid_ids, check_others in checks if encoded else ():  # a row that deletes refers to nothing
                value = key if path == KEY else values.get(path)
                if value is not None and value not in valid_ids:
                    errors = [*errors, *check_others(value, number, key, is_active)]
            if check_consistency and is_active and not errors:
                errors = check_consistency(key, values, number)
            if errors and self._reject(name, key, number, errors):
                return False
            if not add_id(key):
                self.reject_yielded(name, _repeated_id(resource_type, number, key), [key])
            if add_target and is_active:
                add_target(key, values)
            return True

        return accept

    def _target_adder(self, resource_type: ResourceType) -> Callable[[str, Mapping[str, Value]], None] | None:
        """Return a function that adds an active row of a file that others refer to; None for other files."""
        name = resource_type.name
        if name not in REFERENCE_TARGETS:
            return None
        active_ids = self.references.active_ids.setdefault(name, set())
        own_references = _own_references(resource_type) if self.quarantine else ()

        def add(key: str, values: Mapping[str, Value]) -> None:
            active_ids.add(key)
            for path, _ in own_references:
                self._add_referring(name, key, values.get(path))

        return add

    def _reject(self, name: str, key: str, row: int, errors: Sequence[ImportProblem]) -> bool:
        """Quarantine a row with errors and return True. If the errors reject the package, add them and return False."""
        if self.quarantine is None or any(error.code in STRUCTURAL_CODES for error in errors):
            self._files[name].row_problems.extend(row, errors)
            return False
        self.quarantine.add(name, key, errors)
        return True

    def _add_referring(self, name: str, key: str, value: object) -> None:
        referring = self._referring.setdefault(name, {})
        for target in value if isinstance(value, tuple) else (value,):
            if target is not None:
                referring.setdefault(str(target), []).append(key)

    def _repeated_id_errors(self, resource_type: ResourceType) -> Iterator[ImportProblem]:
        if hashes := self.ids[resource_type.name].sort():
            for number, key in IdSet.repeated_rows(self.row_ids(resource_type), hashes):
                yield _repeated_id(resource_type, number, key)

    def _csv_error(self, name: str, message: str) -> ImportProblem:
        file, row = f"{name}.csv", self._row_number + 1
        if "field larger" in message:
            hint = "Close the quote of the cell if it is open. Raise import_max_field_kb if the cell is genuine."
            return ImportProblem("too_large_cell", "a cell is longer than the limit", hint, file, row)
        if "unexpected end of data" in message:
            message = "a quote that this row opens is not closed until the end of the file"
            hint = "Close it. Write a quote within a cell twice. If the file is cut off, upload it again."
            return ImportProblem("bad_csv", message, hint, file, row)
        if "expected after" in message:
            message = "text or a blank follows the closing quote of a cell"
            hint = "Write a quote within a quoted cell twice, without a backslash, and no blank after it."
            return ImportProblem("bad_csv", message, hint, file, row)
        hint = "Quote cells that contain quotes or line breaks."
        return ImportProblem("bad_csv", f"the row is not CSV: {message}", hint, file, row)


def _row_problem(file: DataFile, row: int, error: CellProblem) -> ImportProblem:
    place = file.name, row, error.column
    return ImportProblem(error.code, error.message, error.hint, *place, error.value, cause=error.cause)


def _rounded_ids(file: DataFile, ids: Iterable[str]) -> Iterator[ImportProblem]:
    """Yield a warning about ids that are unique and used in references, but not the ids of the exporting system."""
    if rounded := sorted(key for key in ids if "+" in key and is_rounded(key)):
        message = f"{count_of(len(rounded), 'id')} {'is a number' if len(rounded) == 1 else 'are numbers'}"
        message += " that a spreadsheet rounded"
        hint = "Format the column as text, and export the file again."
        yield ImportProblem("rounded_id", message, hint, file.name, None, "sourcedId", rounded[0], is_warning=True)


def _uncertain_ids(file: DataFile, count: int) -> ImportProblem:
    message = f"{count_of(count, 'quarantined row')} without a certain sourcedId: no missing record was deleted"
    hint = "Correct the rows, so that the import can delete the records that are missing from the file."
    return ImportProblem("uncertain_id", message, hint, file.name, is_warning=True)


def _own_references(resource_type: ResourceType) -> Sequence[tuple[str, str]]:
    """Return stored field and CSV header of the references to records of the same file."""
    headers = {column.name: column.header for column in resource_type.columns}
    return [
        (reference.field, headers[reference.name])
        for reference in resource_type.references
        if reference.target == resource_type.name and reference.name in headers
    ]


def _repeated_id(resource_type: ResourceType, row: int, key: str) -> ImportProblem:
    message, hint = "the sourcedId occurs in an earlier row too", "Use a unique sourcedId or remove one of the rows."
    cause = "rounded" if is_rounded(key) else "repeated"
    hint = ROUNDED_HINT if is_rounded(key) else hint
    return ImportProblem("repeated_id", message, hint, f"{resource_type.name}.csv", row, "sourcedId", key, cause=cause)


def _in_row(reason: ImportProblem, row: int) -> ImportProblem:
    """Return the reason of an excluded row as it is in another row with the same id."""
    is_first = reason.code == "repeated_id" and reason.row is not None and row < reason.row
    return replace(reason, row=row, message=REPEATED_LATER if is_first else reason.message)


def _record_state(rows: Iterator[Row], active_after: dict[str, bool]) -> Iterator[Row]:
    """Yield the rows of a delta file, and store their state in `active_after`: True if the record is active."""
    for row in rows:
        active_after[row[0]] = row[2]["status"] == ACTIVE
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
