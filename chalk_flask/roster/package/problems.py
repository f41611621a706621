"""Errors and warnings about a package, with a hint for the person who exported it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "ImportProblem",
    "ImportProblems",
    "PackageRejectedError",
    "count_of",
    "escape_undecodable",
    "to_one_line",
    "without_values",
]

MAX_LISTED_PROBLEMS = 100
"""Problems that a report lists in full. Further errors are only counted, by file and code."""

MAX_LISTED_PER_COLUMN = 20
"""Errors of a column with one code that a report lists, so that they do not hide errors of other columns."""

MAX_TEXT_LENGTH = 200
"""Maximum length in characters of a message, a name or a value in a report."""

_QUOTED = r"(?s)(?<!\w)(['\"])(?:.*\1|.*)"
"""A quoted part of a message, up to the end of the message where truncation removed the closing quote."""


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """Error or warning with its place, a message and a hint. `row` counts records; the header is row 1.

    A problem with `is_follow_on` is a consequence of another error. It is counted, but not listed. Problems of a
    file with the same `cause` are listed once; it is empty for other problems.
    """

    code: str
    message: str
    hint: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    value: str | None = None
    is_warning: bool = False
    is_follow_on: bool = False
    cause: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the problem. Its list, `errors` or `warnings`, tells the severity."""
        return {
            "code": self.code,
            "message": self.message,
            "remedy": self.hint,
            "file": self.file,
            "row": self.row,
            "column": self.column,
            "value": self.value,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, is_warning: bool) -> ImportProblem:
        """Return the problem that `to_dict` wrote."""
        fields = {name: value for name, value in data.items() if name != "remedy"}
        return cls(hint=data["remedy"], is_warning=is_warning, **fields)

    def to_text(self) -> str:
        """Return one line of text."""
        place = ", ".join(
            part
            for part in (self.file, self.row and f"row {self.row}", self.column and f"column {self.column}")
            if part
        )
        value = "" if self.value is None else f" (value {self.value!r})"
        return to_one_line(f"{place + ': ' if place else ''}{self.message}{value}. {self.hint}")

    def truncated(self) -> ImportProblem:
        """Return the problem with each text cut to `MAX_TEXT_LENGTH` and encodable as UTF-8."""
        return replace(
            self,
            message=_truncate(self.message),
            file=None if self.file is None else _truncate(self.file),
            column=None if self.column is None else _truncate(self.column),
            value=None if self.value is None else _truncate(self.value),
        )


class PackageRejectedError(Exception):
    """Error that ends the import of an invalid package.

    `problems` holds the reasons that are not in the report yet.
    """

    def __init__(self, *problems: ImportProblem) -> None:
        super().__init__(*problems)
        self.problems = problems


@dataclass
class ImportProblems:
    """Collection of the problems of a package. Errors reject the package, warnings do not."""

    errors: list[ImportProblem] = field(default_factory=list)
    warnings: list[ImportProblem] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of errors by file ("" for the package itself) and code, including those that are not listed."""
    _listed: Counter[tuple[str | None, str, str | None]] = field(default_factory=Counter, init=False, compare=False)
    """Number of listed errors by file, code and column."""

    def __post_init__(self) -> None:
        self._count_listed()

    def _count_listed(self) -> None:
        self._listed = Counter((error.file, error.code, error.column) for error in self.errors)

    def add(self, problem: ImportProblem) -> ImportProblem | None:
        """Add a problem. Return it as it is listed, or None if it is only counted.

        At most `MAX_LISTED_PROBLEMS` errors and as many warnings are listed, and `MAX_LISTED_PER_COLUMN` errors with
        the same file, code and column.
        """
        if problem.is_warning:
            return self._list(problem, self.warnings)
        self.counts[problem.file or "", problem.code] += 1
        place = problem.file, problem.code, problem.column
        if self._listed[place] >= MAX_LISTED_PER_COLUMN:
            return None
        listed = self._list(problem, self.errors)
        self._listed[place] += listed is not None
        return listed

    def _list(self, problem: ImportProblem, problems: list[ImportProblem]) -> ImportProblem | None:
        if problem.is_follow_on or len(problems) >= MAX_LISTED_PROBLEMS:
            return None
        listed = problem.truncated()
        problems.append(listed)
        return listed

    def replace_message(self, listed: ImportProblem, message: str) -> ImportProblem:
        """Give another message to an error that `add` returned. Return the error as it is listed now."""
        index = next(index for index, error in enumerate(self.errors) if error is listed)
        self.errors[index] = replace(listed, message=message).truncated()
        return self.errors[index]

    def extend(self, problems: Iterable[ImportProblem]) -> None:
        """Add all problems, for example those that a check yields."""
        for problem in problems:
            self.add(problem)

    def copy(self) -> ImportProblems:
        """Return a copy that later problems do not change."""
        return ImportProblems(list(self.errors), list(self.warnings), self.counts.copy())

    def reset(self, earlier: ImportProblems) -> None:
        """Return to the problems of a copy."""
        self.errors[:], self.warnings[:] = earlier.errors, earlier.warnings
        self.counts = earlier.counts.copy()
        self._count_listed()

    def raise_if_errors(self) -> None:
        """Raise PackageRejectedError if there is an error."""
        if self.total:
            raise PackageRejectedError

    @property
    def total(self) -> int:
        """Number of errors, including those that are not listed."""
        return self.counts.total()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON members of the report that describe the problems."""
        return {
            "errorCount": self.total,
            "errors": [problem.to_dict() for problem in self.errors],
            "errorCounts": [
                {"file": file or None, "code": code, "count": count}
                for (file, code), count in sorted(self.counts.items())
            ],
            "warnings": [problem.to_dict() for problem in self.warnings],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImportProblems:
        """Return the problems that `to_dict` wrote."""
        return cls(
            [ImportProblem.from_dict(problem, is_warning=False) for problem in data["errors"]],
            [ImportProblem.from_dict(problem, is_warning=True) for problem in data["warnings"]],
            Counter({(entry["file"] or "", entry["code"]): entry["count"] for entry in data["errorCounts"]}),
        )

    def to_text(self) -> list[str]:
        """Return one line per listed problem, and the counts if there are more."""
        lines = [problem.to_text() for problem in self.errors]
        if self.total > len(self.errors):
            lines.append(f"... and {self.total - len(self.errors)} more. Total:")
            lines += [
                f"  {file or 'the package'}: {count} x {code}" for (file, code), count in sorted(self.counts.items())
            ]
        return lines + [f"warning: {problem.to_text()}" for problem in self.warnings]


def without_values(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem, as `ImportProblem.to_dict` writes it, without text of the package.

    Cells may contain personal data. A message quotes each cell it repeats, so quoted text is removed.
    """
    message = re.sub(_QUOTED, "...", problem["message"])
    if message.startswith("... "):
        message = f"The value{message.removeprefix('...')}"
    return {**problem, "value": None, "message": message}


def escape_undecodable(text: str) -> str:
    """Return the text with lone surrogates, which stand for undecodable bytes, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_one_line(text: str) -> str:
    """Return the text with control characters written as escapes, so that a terminal can print it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _truncate(text: str) -> str:
    printable = escape_undecodable(text)
    return printable if len(printable) <= MAX_TEXT_LENGTH else printable[: MAX_TEXT_LENGTH - 3] + "..."


def count_of(number: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
