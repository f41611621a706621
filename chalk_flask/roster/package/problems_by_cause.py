"""Errors of the rows of one file: an error with one cause in many rows is listed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from chalk_flask.oneroster.csv.diagnosis import FAILED_EXPORT, TOO_SHORT, CellProblem
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems

__all__ = ["RowProblems", "group_by_cause"]

MAX_CAUSES = 1000
"""Number of causes per file that are remembered. Errors with a further cause are listed one by one."""

MAX_ERRORS_PER_ROW = 3
"""Number of errors of a row that are listed. In a row with more of them, cells are shifted: the first is listed."""

MAX_NAMED_COLUMNS = 5
MAX_NAMED_ROWS = 5

CUT_OFF = "; it is the last row, so the file may be cut off"


@dataclass
class _CauseCounter:
    """First error with a cause as it is listed, the number of rows, and the first row numbers."""

    listed: ImportProblem | None
    message: str = ""
    """Message of the error, before `finish` adds the number of rows."""
    rows: int = 0
    numbers: list[int] = field(default_factory=list)
    last_row: int = 0

    def count(self, row: int) -> None:
        if row and row == self.last_row:
            return  # another item of the same cell
        self.last_row = row
        self.rows += 1
        if len(self.numbers) < MAX_NAMED_ROWS:
            self.numbers.append(row)

    @property
    def suffix(self) -> str:
        """Number of rows, with the first row numbers."""
        more = ", ..." if self.rows > len(self.numbers) else ""
        return f" ({self.rows} rows: {', '.join(map(str, self.numbers))}{more})"


@dataclass
class RowProblems:
    """Collector of the errors of the rows of a file. `finish` writes the number of rows into those with a cause."""

    file: str
    problems: ImportProblems
    _causes: dict[tuple[str, str], _CauseCounter] = field(default_factory=dict)

    def add(self, row: int, errors: Sequence[CellProblem]) -> None:
        """Add the errors of one row."""
        is_shifted = len(errors) > MAX_ERRORS_PER_ROW
        first_cells = {(error.code, error.cause): error for error in reversed(errors) if error.cause}
        listed = 0
        for error in errors:
            if error.cause and error is not first_cells[error.code, error.cause]:
                continue  # another cell of the same row
            hint = f"{error.hint} {_other_columns(errors)}" if is_shifted else error.hint
            value = None if error.code == "bad_text" else error.value
            is_follow_on = (is_shifted and listed > 0) or self._follows_message(error)
            problem = ImportProblem(error.code, error.message, hint, self.file, row, error.column, value)
            listed += self._add(replace(problem, is_follow_on=is_follow_on), row, error.cause)

    def _follows_message(self, error: CellProblem) -> bool:
        """Return True for a further line of an error message of the exporting program."""
        return error.cause.startswith(TOO_SHORT) and self.has(FAILED_EXPORT, FAILED_EXPORT)

    def extend(self, row: int, problems: Iterable[ImportProblem]) -> None:
        """Add errors of a row that parsed well. Errors with the same column and cause are listed once."""
        for problem in problems:
            cause = problem.cause and not problem.is_follow_on
            self._add(problem, row, f"{problem.column}: {problem.cause}" if cause else "")

    def has(self, code: str, cause: str) -> bool:
        """Return True if a row had an error with this code and cause."""
        return (code, cause) in self._causes

    def _add(self, problem: ImportProblem, row: int, cause: str) -> bool:
        """Add an error, or count its row if an earlier row had an error with this cause. Return True if it is new."""
        counter = self._causes.get((problem.code, cause)) if cause else None
        if counter is not None:
            counter.count(row)
            return False
        listed = self.problems.add(problem)
        if cause and len(self._causes) < MAX_CAUSES:
            counter = self._causes[problem.code, cause] = _CauseCounter(listed, problem.message)
            counter.count(row)
        return True

    def add_after_finish(self, problem: ImportProblem, rows: Sequence[int]) -> None:
        """Add an error that was found after `finish`, with the numbers of its rows in their order."""
        self.extend(rows[0], [problem])
        counter = self._causes.get((problem.code, f"{problem.column}: {problem.cause}"))
        if counter and problem.cause and not problem.is_follow_on:
            for row in rows[1:]:
                counter.count(row)
            self._write_suffix(counter)

    def finish(self, last_row: int) -> None:
        """Write the number of rows into the message of each error that occurs in several rows.

        If only the last row of the file is too short, the message says that the file may be cut off.
        """
        for (_, cause), counter in self._causes.items():
            if counter.rows > 1:
                self._write_suffix(counter)
            elif counter.listed and cause.startswith(TOO_SHORT) and counter.listed.row == last_row:
                self.problems.replace_message(counter.listed, counter.listed.message + CUT_OFF)

    def _write_suffix(self, counter: _CauseCounter) -> None:
        if counter.listed and counter.rows > 1:
            counter.listed = self.problems.replace_message(counter.listed, counter.message + counter.suffix)


def group_by_cause(problems: Iterable[ImportProblem]) -> list[ImportProblem]:
    """Return the problems of rows as `RowProblems` lists them: each cause once, and one problem of a shifted row."""
    counters: dict[tuple[object, ...], _CauseCounter] = {}
    for (_, row), errors in groupby(problems, lambda problem: (problem.file, problem.row)):
        for key, problem in _causes_of_row(list(errors)).items():
            counters.setdefault(key, _CauseCounter(problem, problem.message)).count(row or 0)
    return [_with_suffix(counter.listed, counter) for counter in counters.values() if counter.listed]


def _causes_of_row(errors: list[ImportProblem]) -> dict[tuple[object, ...], ImportProblem]:
    if len(errors) > MAX_ERRORS_PER_ROW:
        errors = [replace(errors[0], hint=f"{errors[0].hint} {_other_columns(errors)}")]
    return {_cause_key(error): error for error in reversed(errors)}


def _cause_key(error: ImportProblem) -> tuple[object, ...]:
    value = None if error.is_follow_on else error.value
    cause = (error.cause,) if error.cause else (error.message, error.hint, value)
    return error.file, error.code, error.column, *cause


def _with_suffix(problem: ImportProblem, counter: _CauseCounter) -> ImportProblem:
    if counter.rows == 1:
        return problem
    value = None if problem.is_follow_on else problem.value
    return replace(problem, message=problem.message + counter.suffix, value=value)


def _other_columns(errors: Sequence[CellProblem | ImportProblem]) -> str:
    columns = [error.column for error in errors[1:] if error.column]
    more = len(columns) - MAX_NAMED_COLUMNS
    suffix = f" and {more} more" if more > 0 else ""
    return f"Other columns of this row are invalid too: {', '.join(columns[:MAX_NAMED_COLUMNS])}{suffix}."
