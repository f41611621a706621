"""Report of an import, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.diff.change_set import Outcome
from chalk_flask.roster.imports.thresholds import ExceededThreshold
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, count_of, to_one_line
from chalk_flask.roster.package.problems_by_cause import group_by_cause
from chalk_flask.roster.package.quarantine import MAX_LISTED_PROBLEMS

__all__ = ["FileReport", "ImportReport", "RunState"]

RunState: TypeAlias = Literal[
    "committed", "unchanged", "held", "refused", "checked", "discarded", "expired", "overtaken"
]
"""State of an import. Only a held import can reach the last three states.

A rejected import has the state `refused` in stored and printed JSON.
"""

OUTCOMES: tuple[Outcome, ...] = ("created", "updated", "deleted", "revived", "unchanged")

MAX_PRINTED_ROWS = 100
"""Causes of quarantined rows that the text of a report lists."""

HEADLINES = {
    "committed": "Imported.",
    "unchanged": "Nothing to do: the store already contains this roster.",
    "refused": "Rejected: nothing was changed.",
    "checked": "Checked only (--dry-run): nothing was changed.",
    "held": "Held for approval: nothing was changed.",
    "discarded": "Held, then discarded: nothing was changed.",
    "expired": "Held, but expired: it can only be discarded. Import the package again.",
    "overtaken": "Held, but the roster has changed since: it can only be discarded. Import the package again.",
}


@dataclass(frozen=True)
class FileReport:
    """Result for one data file: number of rows, number of records by outcome, and mode (None if it is absent)."""

    rows: int
    counts: Mapping[Outcome, int]
    mode: str | None = None


@dataclass
class ImportReport:
    """Result of one import.

    `timestamp` is the `dateLastModified` of the changed records. `sha256` identifies the package, see
    `package_checksum`. `exceeded` lists why the package is held, or would be held. `earlier` is the id of the run that
    imported or held the same package before, if this run had nothing to do. `purged` counts deleted tombstones.
    `quarantined` is the number of quarantined rows by file, and `quarantined_rows` lists the first of their problems.
    `notes` are sentences about the package that are no problem, for example what a sync left out.
    """

    run: str
    state: RunState
    tenant: str
    package: str
    problems: ImportProblems
    dry_run: bool = False
    files: dict[str, FileReport] = field(default_factory=dict)
    purged: int = 0
    timestamp: str | None = None
    seconds: float = 0.0
    sha256: str | None = None
    exceeded: list[ExceededThreshold] = field(default_factory=list)
    expires: str | None = None
    earlier: str | None = None
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantined_rows: list[ImportProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of records by file and outcome."""
        return {
            name: {outcome: file.counts.get(outcome, 0) for outcome in OUTCOMES} for name, file in self.files.items()
        }

    def total(self) -> Counter[Outcome]:
        """Return the number of records by outcome."""
        return Counter(
            {outcome: sum(file.counts.get(outcome, 0) for file in self.files.values()) for outcome in OUTCOMES}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `--json` prints."""
        return {
            "run": self.run,
            "state": self.state,
            "tenant": self.tenant,
            "package": self.package,
            "dryRun": self.dry_run,
            "sha256": self.sha256,
            "files": {
                name: {"mode": self.files[name].mode, "rows": self.files[name].rows, **counts}
                for name, counts in self.counts().items()
            },
            "total": {"rows": sum(file.rows for file in self.files.values())} | dict(self.total()),
            "purged": self.purged,
            "dateLastModified": self.timestamp,
            "seconds": round(self.seconds, 3),
            "brake": [threshold.to_dict() for threshold in self.exceeded],
            "expires": self.expires,
            "earlier": self.earlier,
            "quarantined": dict(self.quarantined),
            "quarantinedRows": [problem.to_dict() for problem in self.quarantined_rows],
            "notes": list(self.notes),
        } | self.problems.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImportReport:
        """Return the report that `to_dict` wrote."""
        return cls(
            run=data["run"],
            state=data["state"],
            tenant=data["tenant"],
            package=data["package"],
            problems=ImportProblems.from_dict(data),
            dry_run=data["dryRun"],
            files={name: _parse_file(file) for name, file in data["files"].items()},
            purged=data["purged"],
            timestamp=data["dateLastModified"],
            seconds=data["seconds"],
            sha256=data["sha256"],
            exceeded=[ExceededThreshold(**threshold) for threshold in data["brake"]],
            expires=data["expires"],
            earlier=data["earlier"],
            quarantined=dict(data.get("quarantined", {})),
            quarantined_rows=[
                ImportProblem.from_dict(problem, is_warning=False) for problem in data.get("quarantinedRows", ())
            ],
            notes=list(data.get("notes", ())),
        )

    def to_text(self) -> str:
        """Return the report as lines of text."""
        return "\n".join(line for _, lines in self.to_sections() for line in lines)

    def to_sections(self) -> list[tuple[bool, list[str]]]:
        """Return the lines of the text in sections without empty ones, the headline first.

        True marks a section that requires attention: errors, warnings, quarantined rows and the reasons of a hold.
        """
        headline = f"{to_one_line(self.package)}: {HEADLINES[self.state]}"
        if self.state == "refused":
            lines = [headline, f"{count_of(self.problems.total, 'problem')}:", *self.problems.to_text()]
            return [(True, [*lines, *self._quarantined_rows()])]
        sections = [
            (self.state == "held", [headline, *self._earlier_run()]),
            (True, [*self._reasons(), *self._quarantined_rows(), *self.problems.to_text()]),
            (False, [*self.notes, *self._table()]),
            (True, self._next_steps()),
        ]
        return [(is_problem, lines) for is_problem, lines in sections if lines]

    def _earlier_run(self) -> list[str]:
        if self.earlier is None:
            return []
        if self.state == "held":
            return ["This package is already held. No second copy was stored."]
        return [f"Run {self.earlier} already imported this package, and nothing has changed since."]

    def _reasons(self) -> list[str]:
        reasons = [f"  {threshold.to_text()}" for threshold in self.exceeded]
        if reasons and self.state == "checked":
            return ["It would be held, because it exceeds a change threshold:", *reasons]
        return ["It exceeds a change threshold:", *reasons] if reasons and self.state == "held" else []

    def _quarantined_rows(self) -> list[str]:
        if not self.quarantined:
            return []
        files = ", ".join(f"{count:,} of {name}.csv" for name, count in self.quarantined.items())
        if self.state == "refused":
            heading = f"Invalid rows that quarantine would set aside: {files}."
        else:
            stored = "Stored versions of their records stay, unless they require a deleted record."
            heading = f"Quarantined rows: {files}. They are not imported. {stored}"
        problems = group_by_cause(self.quarantined_rows)
        lines = [heading, *(f"  {problem.to_text()}" for problem in problems[:MAX_PRINTED_ROWS])]
        if len(problems) > MAX_PRINTED_ROWS or len(self.quarantined_rows) >= MAX_LISTED_PROBLEMS:
            lines.append("  ... and more: --csv FILE writes all of them to a file.")
        return lines

    def _next_steps(self) -> list[str]:
        if self.state != "held":
            return []
        arguments = f"{self.run}" if self.tenant == "default" else f"{self.run} --tenant {self.tenant}"
        return [
            f"To apply it (before {self.expires}, and before any other change to the roster):",
            f"  chalk-flask imports approve {arguments}",
            "To delete it without applying it:",
            f"  chalk-flask imports discard {arguments}",
        ]

    def _table(self) -> list[str]:
        columns = ("rows", *OUTCOMES)
        lines = [f"{'':16}" + "".join(f"{column:>10}" for column in columns)]
        for name, file in self.files.items():
            numbers = (file.rows, *(file.counts.get(outcome, 0) for outcome in OUTCOMES))
            lines.append(f"{name:16}" + "".join(f"{number:>10,}" for number in numbers))
        if self.purged:
            lines.append(f"{self.purged:,} old tombstones deleted for good.")
        return [*lines, f"{self.seconds:.1f} s"]


def _parse_file(data: Mapping[str, Any]) -> FileReport:
    return FileReport(data["rows"], {outcome: data[outcome] for outcome in OUTCOMES}, data["mode"])
