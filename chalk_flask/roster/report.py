"""What an import did, or why it did nothing, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.changes import Outcome
from chalk_flask.roster.problems import Problems, one_line

__all__ = ["FileReport", "Report", "State"]

State: TypeAlias = Literal["committed", "unchanged", "refused", "checked"]

OUTCOMES: tuple[Outcome, ...] = ("created", "updated", "deleted", "revived", "unchanged")

HEADLINES = {
    "committed": "Imported.",
    "unchanged": "Nothing to do: the store holds this roster already.",
    "refused": "Refused: nothing was changed.",
    "checked": "Checked only (--dry-run): nothing was changed.",
}


@dataclass(frozen=True)
class FileReport:
    """One data file: its rows, and how many records are how afterwards."""

    rows: int
    counts: Mapping[Outcome, int]


@dataclass
class Report:
    """The outcome of one import, the run `run`. `stamp` is the `dateLastModified` that changed records got."""

    run: str
    state: State
    tenant: str
    package: str
    problems: Problems
    dry_run: bool = False
    files: dict[str, FileReport] = field(default_factory=dict)
    purged: int = 0
    stamp: str | None = None
    seconds: float = 0.0

    def counts(self) -> dict[str, dict[str, int]]:
        """By file, how many records are how."""
        return {
            name: {outcome: each.counts.get(outcome, 0) for outcome in OUTCOMES} for name, each in self.files.items()
        }

    def total(self) -> Counter[Outcome]:
        """The counts over all files."""
        return Counter({outcome: sum(f.counts.get(outcome, 0) for f in self.files.values()) for outcome in OUTCOMES})

    def as_dict(self) -> dict[str, Any]:
        """One object for `--json`."""
        return {
            "run": self.run,
            "state": self.state,
            "tenant": self.tenant,
            "package": self.package,
            "dryRun": self.dry_run,
            "files": {name: {"rows": self.files[name].rows} | counts for name, counts in self.counts().items()},
            "total": {"rows": sum(f.rows for f in self.files.values())} | dict(self.total()),
            "purged": self.purged,
            "dateLastModified": self.stamp,
            "seconds": round(self.seconds, 3),
        } | self.problems.as_dict()

    def as_text(self) -> str:
        """Lines for a person."""
        lines = [f"{one_line(self.package)}: {HEADLINES[self.state]}"]
        if self.state == "refused":
            lines.append(f"{self.problems.total} problem{'s' if self.problems.total != 1 else ''}:")
        lines += self.problems.as_text()
        if self.state != "refused":
            lines += self._table()
        return "\n".join(lines)

    def _table(self) -> list[str]:
        heads = ("rows", *OUTCOMES)
        lines = [f"{'':18}" + "".join(f"{head:>11}" for head in heads)]
        for name, report in self.files.items():
            numbers = (report.rows, *(report.counts.get(outcome, 0) for outcome in OUTCOMES))
            lines.append(f"{name:18}" + "".join(f"{number:>11,}" for number in numbers))
        if self.purged:
            lines.append(f"{self.purged:,} old tombstones removed for good.")
        return [*lines, f"{self.seconds:.1f} s"]
