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

from backends import AllOf, Among, Compare, Query, Record, Snapshot, Transaction
from chalk_flask.roster.imports import held_files
from chalk_flask.roster.imports.report import Report, State
from chalk_flask.roster.package.problems import without_values

__all__ = [
    "COLLECTION",
    "HELD_FOR",
    "KEPT",
    "Run",
    "bare",
    "find",
    "keep",
    "keep_refused",
    "listed",
    "same",
    "wanted",
    "written",
]

COLLECTION = "imports"
KEPT = timedelta(days=90)
"""How long it is known what an import did."""
MOST_REFUSED = 200
"""So many refused runs of a tenant are known at the most: what is tried every minute must not fill the disk."""
HELD_FOR = timedelta(days=7)
"""How long a held package can be approved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
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

    def as_json(self) -> bytes:
        """The form in which it is stored."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return orjson.dumps(data)

    def record(self) -> Record:
        """The record in the collection `imports`."""
        values = {"started": self.started, "state": self.state, "package": self.sha256 or ""}
        return Record(self.id, self.as_json(), values)

    def applied(self, state: State, report: Report, revision: int | None) -> Run:
        """The held run once it is applied: with the report of that, and why it was held."""
        known = bare(report, state) | {"brake": self.report["brake"]}
        return replace(self, state=state, revision=revision, report=known)

    def ended(self, state: State, who: str, now: datetime) -> Run:
        """The held run once somebody has decided about it."""
        report = {**self.report, "state": state}
        return replace(self, state=state, settled_by=who, settled=written(now), report=report)


def bare(report: Report, state: State) -> dict[str, Any]:
    """The report as it is kept: without what stood in the package."""
    data = report.as_dict() | {"state": state}
    return data | {name: [without_values(each) for each in data[name]] for name in ("errors", "warnings")}


def find(snapshot: Snapshot, run: str) -> Run | None:
    """The stored run of that id."""
    body = snapshot.bodies(COLLECTION, [run]).get(run)
    return None if body is None else _parsed(body)


def find_refused(folder: Path, tenant: str, run: str) -> Run | None:
    """The refused run of that id. Raises OSError."""
    return next((each for each in _refused(held_files.folder_for(folder, tenant)) if each.id == run), None)


def same(snapshot: Snapshot, states: Sequence[State], sha256: str, options: Mapping[str, Any]) -> Run | None:
    """A run of the same package with the same options since when the roster has not moved, in one of these states."""
    for run in _stored(snapshot, AllOf((Compare("package", "=", sha256), Among("state", tuple(states))))):
        if run.revision == snapshot.revision and _alike(run.options) == _alike(options):
            return run
    return None


def keep(transaction: Transaction, run: Run, now: datetime) -> None:
    """Store the run, and forget those that are old."""
    old = list(transaction.keys(COLLECTION, Compare("started", "<", written(now - KEPT))))
    transaction.delete(COLLECTION, old)
    transaction.put(COLLECTION, [run.record()])


def keep_refused(folder: Path, run: Run) -> None:
    """Write down a refused run. Raises OSError."""
    own = held_files.folder_for(folder, run.tenant)
    held_files.write(own / f"{run.id}.json", run.as_json())
    runs = sorted(_refused(own), key=lambda each: each.started, reverse=True)
    oldest = written(datetime.now(UTC) - KEPT)
    for place, each in enumerate(runs):
        if place >= MOST_REFUSED or each.started < oldest:
            (own / f"{each.id}.json").unlink(missing_ok=True)


def listed(snapshot: Snapshot, folder: Path, tenant: str) -> list[Run]:
    """All runs of a tenant, stored and refused, the oldest first. Raises OSError."""
    oldest = written(datetime.now(UTC) - KEPT)
    found = [*_stored(snapshot, AllOf(())), *_refused(held_files.folder_for(folder, tenant))]
    return sorted((run for run in found if run.started >= oldest), key=lambda run: (run.started, run.id))


def wanted(snapshot: Snapshot, now: datetime) -> set[str]:
    """The ids of the runs that are held and can be approved."""
    runs = _stored(snapshot, Compare("state", "=", "held"))
    return {run.id for run in runs if run.state_at(now, snapshot.revision) == "held"}


def written(moment: datetime) -> str:
    """The moment in UTC with milliseconds: texts that sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stored(snapshot: Snapshot, where: Any) -> Iterator[Run]:
    body = snapshot.find(Query(COLLECTION, where)).body()
    return (_of(data) for data in orjson.loads(b"[%s]" % body))


def _refused(own: Path) -> Iterator[Run]:
    for path in own.glob("run-*.json") if own.is_dir() else ():
        with contextlib.suppress(ValueError, TypeError, FileNotFoundError):  # no file of ours, or gone meanwhile
            yield _parsed(path.read_bytes())


def _parsed(body: bytes) -> Run:
    return _of(orjson.loads(body))


def _of(data: Mapping[str, Any]) -> Run:
    return Run(**data)


def _alike(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options decides what becomes of a package that was read once."""
    return {name: value for name, value in options.items() if name != "limits"}
