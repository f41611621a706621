"""What an import did, or why it did nothing, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.diff.change_set import Outcome
from chalk_flask.roster.imports.thresholds import ExceededThreshold
from chalk_flask.roster.package.problems import ImportProblems, to_one_line

__all__ = ["FileReport", "ImportReport", "State"]

State: TypeAlias = Literal["committed", "unchanged", "held", "refused", "checked", "discarded", "expired", "overtaken"]
"""What became of an import. Only one that was held can get into the last three states, later on."""

OUTCOMES: tuple[Outcome, ...] = ("created", "updated", "deleted", "revived", "unchanged")

HEADLINES = {
    "committed": "Imported.",
    "unchanged": "Nothing to do: the store holds this roster already.",
    "refused": "Refused: nothing was changed.",
    "checked": "Checked only (--dry-run): nothing was changed.",
    "held": "Held: nothing was changed.",
    "discarded": "Held, and then discarded: nothing was changed.",
    "expired": "Held for too long: it can only be discarded. Import the package again.",
    "overtaken": "Held, but the roster has changed since: it can only be discarded. Import the package again.",
}


@dataclass(frozen=True)
class FileReport:
    """One data file: its rows, how many records are how afterwards, and its mode, unless it has no part in it."""

    rows: int
    counts: Mapping[Outcome, int]
    mode: str | None = None


@dataclass
class ImportReport:
    """The outcome of one import, the run `run`. `stamp` is the `dateLastModified` that changed records got.

    `sha256` tells the package (see `fingerprint`), `trips` says why it is held or would be, `earlier` names the
    run that imported or held the same package before, so that there was nothing to do.
    """

    run: str
    state: State
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

    def counts(self) -> dict[str, dict[str, int]]:
        """By file, how many records are how."""
        return {
            name: {outcome: each.counts.get(outcome, 0) for outcome in OUTCOMES} for name, each in self.files.items()
        }

    def total(self) -> Counter[Outcome]:
        """The counts over all files."""
        return Counter({outcome: sum(f.counts.get(outcome, 0) for f in self.files.values()) for outcome in OUTCOMES})

    def to_dict(self) -> dict[str, Any]:
        """One object for `--json`."""
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
            "total": {"rows": sum(f.rows for f in self.files.values())} | dict(self.total()),
            "purged": self.purged,
            "dateLastModified": self.timestamp,
            "seconds": round(self.seconds, 3),
            "brake": [trip.to_dict() for trip in self.exceeded],
            "expires": self.expires,
            "earlier": self.earlier,
        } | self.problems.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImportReport:
        """The report that `as_dict` gave."""
        return cls(
            run=data["run"],
            state=data["state"],
            tenant=data["tenant"],
            package=data["package"],
            problems=ImportProblems.from_dict(data),
            dry_run=data["dryRun"],
            files={name: _file_of(each) for name, each in data["files"].items()},
            purged=data["purged"],
            timestamp=data["dateLastModified"],
            seconds=data["seconds"],
            sha256=data["sha256"],
            exceeded=[ExceededThreshold(**trip) for trip in data["brake"]],
            expires=data["expires"],
            earlier=data["earlier"],
        )

    def to_text(self) -> str:
        """Lines for a person."""
        lines = [f"{to_one_line(self.package)}: {HEADLINES[self.state]}"]
        if self.state == "refused":
            lines.append(f"{self.problems.total} problem{'s' if self.problems.total != 1 else ''}:")
        lines += [*self._about_earlier(), *self._why_held(), *self.problems.to_text()]
        if self.state != "refused":
            lines += self._table()
        return "\n".join([*lines, *self._how_to_go_on()])

    def _about_earlier(self) -> list[str]:
        if self.earlier is None:
            return []
        if self.state == "held":
            return ["This package is held already; there is no second copy of it."]
        return [f"This package was imported already, by the run {self.earlier}, and nothing has changed since."]

    def _why_held(self) -> list[str]:
        reasons = [f"  {trip.to_text()}" for trip in self.exceeded]
        if reasons and self.state == "checked":
            return ["It would be held, because:", *reasons]
        return ["Because:", *reasons] if reasons and self.state == "held" else []

    def _how_to_go_on(self) -> list[str]:
        if self.state != "held":
            return []
        end = f"{self.run}" if self.tenant == "default" else f"{self.run} --tenant {self.tenant}"
        return [
            f"Until {self.expires}, and as long as nothing else changes the roster, this applies it as it is:",
            f"  chalk-flask imports approve {end}",
            "This drops it:",
            f"  chalk-flask imports discard {end}",
        ]

    def _table(self) -> list[str]:
        heads = ("rows", *OUTCOMES)
        lines = [f"{'':18}" + "".join(f"{head:>11}" for head in heads)]
        for name, report in self.files.items():
            numbers = (report.rows, *(report.counts.get(outcome, 0) for outcome in OUTCOMES))
            lines.append(f"{name:18}" + "".join(f"{number:>11,}" for number in numbers))
        if self.purged:
            lines.append(f"{self.purged:,} old tombstones removed for good.")
        return [*lines, f"{self.seconds:.1f} s"]


def _file_of(data: Mapping[str, Any]) -> FileReport:
    return FileReport(data["rows"], {outcome: data[outcome] for outcome in OUTCOMES}, data["mode"])
