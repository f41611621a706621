"""Errors of the rows of one file: an error with one cause in many rows is listed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chalk_flask.oneroster.csv.diagnosis import CellProblem
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems

__all__ = ["RowProblems"]

MAX_CAUSES = 1000
"""Number of causes per file that are remembered. Errors with a further cause are listed one by one."""

MAX_ERRORS_PER_ROW = 3
"""Number of errors of a row that are listed. In a row with more of them, cells are shifted: the first is listed."""

MAX_NAMED_COLUMNS = 5


@dataclass
class _Cause:
    """First error with a cause as it is listed, and the number of rows."""

    listed: ImportProblem | None
    rows: int


@dataclass
class RowProblems:
    """Collector of the errors of the rows of a file. `finish` writes the number of rows into those with a cause."""

    file: str
    problems: ImportProblems
    _causes: dict[tuple[str, str], _Cause] = field(default_factory=dict)

    def add(self, row: int, errors: Sequence[CellProblem]) -> None:
        """Add the errors of one row."""
        is_shifted = len(errors) > MAX_ERRORS_PER_ROW
        causes = {(error.code, error.cause): error for error in reversed(errors) if error.cause}
        listed = 0
        for error in errors:
            if error.cause and error is not causes[error.code, error.cause]:
                continue  # another cell of the same row
            if self._is_known(error):
                continue
            hint = f"{error.hint} {_other_columns(errors)}" if is_shifted else error.hint
            self._list(error, row, hint, is_follow_on=is_shifted and listed > 0)
            listed += 1

    def has(self, code: str, cause: str) -> bool:
        """Return True if a row had an error with this code and cause."""
        return (code, cause) in self._causes

    def _is_known(self, error: CellProblem) -> bool:
        """Return True if an earlier row had an error with this cause, and count the row."""
        cause = self._causes.get((error.code, error.cause)) if error.cause else None
        if cause is not None:
            cause.rows += 1
        return cause is not None

    def _list(self, error: CellProblem, row: int, hint: str, *, is_follow_on: bool) -> None:
        value = None if error.code == "bad_text" else error.value
        listed = self.problems.add(
            ImportProblem(
                error.code, error.message, hint, self.file, row, error.column, value, is_follow_on=is_follow_on
            )
        )
        if error.cause and len(self._causes) < MAX_CAUSES:
            self._causes[error.code, error.cause] = _Cause(listed, 1)

    def finish(self) -> None:
        """Write the number of rows into the message of each error that occurs in several rows."""
        for cause in self._causes.values():
            if cause.listed is not None and cause.rows > 1:
                self.problems.replace_message(cause.listed, f"{cause.listed.message} ({cause.rows} rows)")


def _other_columns(errors: Sequence[CellProblem]) -> str:
    columns = [error.column for error in errors[1:] if error.column]
    more = len(columns) - MAX_NAMED_COLUMNS
    suffix = f" and {more} more" if more > 0 else ""
    return f"Other columns of this row are invalid too: {', '.join(columns[:MAX_NAMED_COLUMNS])}{suffix}."
