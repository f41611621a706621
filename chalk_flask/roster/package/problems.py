"""What is wrong with a package, said so that the person who exported it can mend it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["ImportProblem", "ImportProblems", "PackageRejected", "escape_undecodable", "to_one_line", "without_values"]

MAX_LISTED = 100
"""So many problems are told in full; of the others it is told how many there are of which kind in which file."""

_QUOTED = re.compile(r"(?<!\w)(['\"])(?:.*\1|.*)", re.DOTALL)
"""What is quoted; where the end was cut off, the rest of the message."""

MAX_TEXT_LENGTH = 200
"""Characters of a message, a name or a value that are told."""


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """One thing that is wrong: where, what, and what to do. `row` counts records, the header being 1."""

    code: str
    message: str
    remedy: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def to_text(self) -> str:
        """A line for a person."""
        place = ", ".join(
            part
            for part in (self.file, self.row and f"row {self.row}", self.column and f"column {self.column}")
            if part
        )
        value = "" if self.value is None else f" (value {self.value!r})"
        return to_one_line(f"{place + ': ' if place else ''}{self.message}{value}. {self.remedy}")


class PackageRejected(Exception):
    """The package cannot be read on; `problems` says why."""


@dataclass
class ImportProblems:
    """All that was found: errors, which refuse the package, and warnings, which do not."""

    errors: list[ImportProblem] = field(default_factory=list)
    warnings: list[ImportProblem] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def error(
        self,
        code: str,
        message: str,
        remedy: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        value: str | None = None,
    ) -> None:
        """Count an error and, among the first hundred, keep it in full."""
        self.counts[file or "", code] += 1
        if len(self.errors) < MAX_LISTED:
            self.errors.append(_shown(ImportProblem(code, message, remedy, file, row, column, value)))

    def warn(self, code: str, message: str, remedy: str, *, file: str | None = None, column: str | None = None) -> None:
        """Keep a warning; the caller says each thing once a file."""
        if len(self.warnings) < MAX_LISTED:
            self.warnings.append(_shown(ImportProblem(code, message, remedy, file, None, column)))

    @property
    def total(self) -> int:
        """How many errors there are, told in full or not."""
        return self.counts.total()

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "errorCount": self.total,
            "errors": [asdict(problem) for problem in self.errors],
            "errorCounts": [{"file": f or None, "code": c, "count": n} for (f, c), n in sorted(self.counts.items())],
            "warnings": [asdict(problem) for problem in self.warnings],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImportProblems:
        """The problems that `as_dict` gave."""
        return cls(
            [ImportProblem(**each) for each in data["errors"]],
            [ImportProblem(**each) for each in data["warnings"]],
            Counter({(each["file"] or "", each["code"]): each["count"] for each in data["errorCounts"]}),
        )

    def to_text(self) -> list[str]:
        """Lines for a person."""
        lines = [problem.to_text() for problem in self.errors]
        if self.total > len(self.errors):
            lines.append(f"... and {self.total - len(self.errors)} more; in all:")
            lines += [f"  {file or 'the package'}: {n} x {code}" for (file, code), n in sorted(self.counts.items())]
        return lines + [f"warning: {problem.to_text()}" for problem in self.warnings]


def without_values(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem as `as_dict` gives it without what stood in the package: cells may be about people.

    A message quotes what it repeats, and what is quoted goes.
    """
    return {**problem, "value": None, "message": _QUOTED.sub("...", problem["message"])}


def escape_undecodable(text: str) -> str:
    """The text with what UTF-8 cannot say (bytes of another encoding) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_one_line(text: str) -> str:
    """The text as a terminal may get it: control characters written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _shown(problem: ImportProblem) -> ImportProblem:
    """The problem with each part in a length and a form that can be printed."""
    file, column, value = (
        part if part is None else _cut(part) for part in (problem.file, problem.column, problem.value)
    )
    return replace(problem, message=_cut(problem.message), file=file, column=column, value=value)


def _cut(text: str) -> str:
    told = escape_undecodable(text)
    return told if len(told) <= MAX_TEXT_LENGTH else told[: MAX_TEXT_LENGTH - 3] + "..."
