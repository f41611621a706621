"""What is wrong with a package, said so that the person who exported it can mend it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Problem", "Problems", "Refused"]

SHOWN = 100
"""So many problems are told in full; of the others it is told how many there are of which kind in which file."""

LONGEST = 120


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
        return f"{place + ': ' if place else ''}{self.message}{value}. {self.remedy}"


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
            shown = value if value is None or len(value) <= LONGEST else value[: LONGEST - 3] + "..."
            self.errors.append(Problem(code, message, remedy, file, row, column, _printable(shown)))

    def warn(self, code: str, message: str, remedy: str, *, file: str | None = None, column: str | None = None) -> None:
        """Keep a warning; the caller says each thing once a file."""
        if len(self.warnings) < SHOWN:
            self.warnings.append(Problem(code, message, remedy, file, None, column))

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

    def as_text(self) -> list[str]:
        """Lines for a person."""
        lines = [problem.as_text() for problem in self.errors]
        if self.total > len(self.errors):
            lines.append(f"... and {self.total - len(self.errors)} more; in all:")
            lines += [f"  {file or 'the package'}: {n} x {code}" for (file, code), n in sorted(self.counts.items())]
        return lines + [f"warning: {problem.as_text()}" for problem in self.warnings]


def _printable(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
