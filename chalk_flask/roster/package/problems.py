"""What is wrong with a package, said so that the person who exported it can mend it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Problem", "Problems", "Refused", "encodable", "one_line", "without_values"]

SHOWN = 100
"""So many problems are told in full; of the others it is told how many there are of which kind in which file."""

_QUOTED = re.compile(r"(?<!\w)(['\"])(?:.*\1|.*)", re.DOTALL)
"""What is quoted; where the end was cut off, the rest of the message."""

LONGEST = 200
"""Characters of a message, a name or a value that are told."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what, and what to do. `row` counts records, the header being 1."""

    code: str
    message: str
    remedy: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def as_text(self) -> str:
        """A line for a person."""
        place = ", ".join(
            part
            for part in (self.file, self.row and f"row {self.row}", self.column and f"column {self.column}")
            if part
        )
        value = "" if self.value is None else f" (value {self.value!r})"
        return one_line(f"{place + ': ' if place else ''}{self.message}{value}. {self.remedy}")


class Refused(Exception):
    """The package cannot be read on; `problems` says why."""


@dataclass
class Problems:
    """All that was found: errors, which refuse the package, and warnings, which do not."""

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
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
        if len(self.errors) < SHOWN:
            self.errors.append(_shown(Problem(code, message, remedy, file, row, column, value)))

    def warn(self, code: str, message: str, remedy: str, *, file: str | None = None, column: str | None = None) -> None:
        """Keep a warning; the caller says each thing once a file."""
        if len(self.warnings) < SHOWN:
            self.warnings.append(_shown(Problem(code, message, remedy, file, None, column)))

    @property
    def total(self) -> int:
        """How many errors there are, told in full or not."""
        return self.counts.total()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "errorCount": self.total,
            "errors": [asdict(problem) for problem in self.errors],
            "errorCounts": [{"file": f or None, "code": c, "count": n} for (f, c), n in sorted(self.counts.items())],
            "warnings": [asdict(problem) for problem in self.warnings],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Problems:
        """The problems that `as_dict` gave."""
        return cls(
            [Problem(**each) for each in data["errors"]],
            [Problem(**each) for each in data["warnings"]],
            Counter({(each["file"] or "", each["code"]): each["count"] for each in data["errorCounts"]}),
        )

    def as_text(self) -> list[str]:
        """Lines for a person."""
        lines = [problem.as_text() for problem in self.errors]
        if self.total > len(self.errors):
            lines.append(f"... and {self.total - len(self.errors)} more; in all:")
            lines += [f"  {file or 'the package'}: {n} x {code}" for (file, code), n in sorted(self.counts.items())]
        return lines + [f"warning: {problem.as_text()}" for problem in self.warnings]


def without_values(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem as `as_dict` gives it without what stood in the package: cells may be about people.

    A message quotes what it repeats, and what is quoted goes.
    """
    return {**problem, "value": None, "message": _QUOTED.sub("...", problem["message"])}


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot say (bytes of another encoding) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """The text as a terminal may get it: control characters written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _shown(problem: Problem) -> Problem:
    """The problem with each part in a length and a form that can be printed."""
    file, column, value = (
        part if part is None else _cut(part) for part in (problem.file, problem.column, problem.value)
    )
    return replace(problem, message=_cut(problem.message), file=file, column=column, value=value)


def _cut(text: str) -> str:
    told = encodable(text)
    return told if len(told) <= LONGEST else told[: LONGEST - 3] + "..."
