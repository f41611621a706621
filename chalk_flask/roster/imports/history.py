"""What imports did: a record of each run in its tenant, and a small file of each that was refused.

A refused package leaves the store as it is, byte for byte, so what is kept of it lies below the setting `data`.
Neither holds a cell of a package.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson

from backends import And, Compare, In, Query, Record, Snapshot, Transaction
from chalk_flask.roster.imports import held_files
from chalk_flask.roster.imports.report import ImportReport, State
from chalk_flask.roster.package.problems import without_values

__all__ = [
    "COLLECTION",
    "HOLD_PERIOD",
    "RETENTION",
    "ImportRun",
    "find_run",
    "find_same_package",
    "list_runs",
    "runs_to_keep",
    "store_rejected_run",
    "store_run",
    "summary",
    "written",
]

COLLECTION = "imports"
RETENTION = timedelta(days=90)
"""How long it is known what an import did."""
MAX_REJECTED_RUNS = 200
"""So many refused runs of a tenant are known at the most: what is tried every minute must not fill the disk."""
HOLD_PERIOD = timedelta(days=7)
"""How long a held package can be approved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRun:
    """One import of a tenant. `state` is the one that is stored; `state_at` says what it means now.

    `options` are those that decided what the package does. `revision` is the roster's after the run; None when it is
    not known. `held_sha256` tells the bytes that are held, `settled` by whom and when that was ended.
    """

    id: str
    tenant: str
    state: State
    who: str
    started: str
    options: Mapping[str, Any]
    report: Mapping[str, Any]
    revision: int | None = None
    held_sha256: str | None = None
    settled_by: str | None = None
    settled: str | None = None

    @property
    def sha256(self) -> str | None:
        """What the package is told by."""
        return cast("str | None", self.report["sha256"])

    def state_at(self, now: datetime, revision: int) -> State:
        """The state at a moment at which the roster has that revision: what is held may have expired meanwhile."""
        if self.state != "held":
            return self.state
        if self.revision != revision:
            return "overtaken"
        return "expired" if self.report["expires"] <= written(now) else "held"

    def shown(self, state: State) -> dict[str, Any]:
        """The JSON object that is shown: the report and what else is known."""
        return {
            **self.report,
            "state": state,
            "who": self.who,
            "started": self.started,
            "options": dict(self.options),
            "settledBy": self.settled_by,
            "settled": self.settled,
        }

    def to_dict(self) -> bytes:
        """The form in which it is stored."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return orjson.dumps(data)

    def to_record(self) -> Record:
        """The record in the collection `imports`."""
        values = {"started": self.started, "state": self.state, "package": self.sha256 or ""}
        return Record(self.id, self.to_dict(), values)

    def applied(self, state: State, report: ImportReport, revision: int | None) -> ImportRun:
        """The held run once it is applied: with the report of that, and why it was held."""
        known = summary(report, state) | {"brake": self.report["brake"]}
        return replace(self, state=state, revision=revision, report=known)

    def ended(self, state: State, who: str, now: datetime) -> ImportRun:
        """The held run once somebody has decided about it."""
        report = {**self.report, "state": state}
        return replace(self, state=state, settled_by=who, settled=written(now), report=report)


def summary(report: ImportReport, state: State) -> dict[str, Any]:
    """The report as it is kept: without what stood in the package."""
    data = report.to_dict() | {"state": state}
    return data | {name: [without_values(each) for each in data[name]] for name in ("errors", "warnings")}


def find_run(snapshot: Snapshot, run: str) -> ImportRun | None:
    """The stored run of that id."""
    body = snapshot.get_many(COLLECTION, [run]).get(run)
    return None if body is None else _parsed(body)


def find_rejected_run(folder: Path, tenant: str, run: str) -> ImportRun | None:
    """The refused run of that id. Raises OSError."""
    return next((each for each in _refused(held_files.folder_for(folder, tenant)) if each.id == run), None)


def find_same_package(
    snapshot: Snapshot, states: Sequence[State], sha256: str, options: Mapping[str, Any]
) -> ImportRun | None:
    """A run of the same package with the same options since when the roster has not moved, in one of these states."""
    for run in _stored(snapshot, And((Compare("package", "=", sha256), In("state", tuple(states))))):
        if run.revision == snapshot.revision and _alike(run.options) == _alike(options):
            return run
    return None


def store_run(transaction: Transaction, run: ImportRun, now: datetime) -> None:
    """Store the run, and forget those that are old."""
    old = list(transaction.keys(COLLECTION, Compare("started", "<", written(now - RETENTION))))
    transaction.delete(COLLECTION, old)
    transaction.put(COLLECTION, [run.to_record()])


def store_rejected_run(folder: Path, run: ImportRun) -> None:
    """Write down a refused run. Raises OSError."""
    own = held_files.folder_for(folder, run.tenant)
    held_files.write_file(own / f"{run.id}.json", run.to_dict())
    runs = sorted(_refused(own), key=lambda each: each.started, reverse=True)
    oldest = written(datetime.now(UTC) - RETENTION)
    for place, each in enumerate(runs):
        if place >= MAX_REJECTED_RUNS or each.started < oldest:
            (own / f"{each.id}.json").unlink(missing_ok=True)


def list_runs(snapshot: Snapshot, folder: Path, tenant: str) -> list[ImportRun]:
    """All runs of a tenant, stored and refused, the oldest first. Raises OSError."""
    oldest = written(datetime.now(UTC) - RETENTION)
    found = [*_stored(snapshot, And(())), *_refused(held_files.folder_for(folder, tenant))]
    return sorted((run for run in found if run.started >= oldest), key=lambda run: (run.started, run.id))


def runs_to_keep(snapshot: Snapshot, now: datetime) -> set[str]:
    """The ids of the runs that are held and can be approved."""
    runs = _stored(snapshot, Compare("state", "=", "held"))
    return {run.id for run in runs if run.state_at(now, snapshot.revision) == "held"}


def written(moment: datetime) -> str:
    """The moment in UTC with milliseconds: texts that sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stored(snapshot: Snapshot, where: Any) -> Iterator[ImportRun]:
    body = snapshot.find(Query(COLLECTION, where)).body()
    return (_of(data) for data in orjson.loads(b"[%s]" % body))


def _refused(own: Path) -> Iterator[ImportRun]:
    for path in own.glob("run-*.json") if own.is_dir() else ():
        with contextlib.suppress(ValueError, TypeError, FileNotFoundError):  # no file of ours, or gone meanwhile
            yield _parsed(path.read_bytes())


def _parsed(body: bytes) -> ImportRun:
    return _of(orjson.loads(body))


def _of(data: Mapping[str, Any]) -> ImportRun:
    return ImportRun(**data)


def _alike(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options decides what becomes of a package that was read once."""
    return {name: value for name, value in options.items() if name != "limits"}
