"""History of imports: one stored record per run of a tenant, and one small file per rejected run.

A rejected package must leave the store unchanged, byte for byte, so its report is a file below the setting `data`.
Neither form contains a cell of a package.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson

from backends import MATCH_ALL, And, Compare, In, OrderBy, Query, Record, Snapshot, Transaction, Where
from chalk_flask.roster.changes.version import RosterVersion, only_tools_wrote, roster_version
from chalk_flask.roster.imports import run_files
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.roster.package.problems import without_values
from chalk_flask.times import format_timestamp, utc_now

__all__ = [
    "COLLECTION",
    "HOLD_PERIOD",
    "RETENTION",
    "ImportRun",
    "find_last_committed_run",
    "find_last_current_run",
    "find_rejected_run",
    "find_run",
    "find_run_with_timestamp",
    "find_same_package",
    "list_runs",
    "rejected_run_ids",
    "runs_to_keep",
    "store_rejected_run",
    "store_run",
    "summary",
]

COLLECTION = "imports"
RETENTION = timedelta(days=90)
"""Age at which the report of a run is deleted."""
MAX_REJECTED_RUNS = 200
"""Maximum number of stored rejected runs per tenant, so that an import that fails every minute cannot fill the disk."""
MAX_COMPARED_RUNS = 20
"""Maximum number of runs that are searched for the one that wrote a timestamp."""
HOLD_PERIOD = timedelta(days=7)
"""Time for which a held package can be approved."""

_RUN_ID = re.compile(r"run-[0-9a-f-]{36}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRun:
    """One import of a tenant. `state` is the stored state; `current_state` returns the current one.

    `who` is the user who started it. `options` has the form of `ImportOptions.to_dict`. `revision` is the revision of
    the roster after the run, or None if it is unknown. `held_sha256` is the checksum of the held file, and
    `roster_version` the RosterVersion with which a held package was compared. `settled_by` and `settled` are the user
    who approved or discarded a held run, and the time.
    """

    id: str
    tenant: str
    state: RunState
    who: str
    started: str
    options: Mapping[str, Any]
    report: Mapping[str, Any]
    revision: int | None = None
    held_sha256: str | None = None
    settled_by: str | None = None
    settled: str | None = None
    roster_version: Sequence[Any] | None = None

    @property
    def sha256(self) -> str | None:
        """Checksum of the package, see `package_checksum`."""
        return cast("str | None", self.report["sha256"])

    @property
    def last_used(self) -> str:
        """Time at which the package was last compared with the roster: at the start, or at the approval."""
        return self.settled or self.started

    def state_at(self, time: datetime, revision: int) -> RunState:
        """Return the state at a time at which the roster has this revision: a held run may have expired."""
        if self.state != "held":
            return self.state
        if self.revision != revision:
            return "overtaken"
        return "expired" if self.report["expires"] <= format_timestamp(time) else "held"

    def current_state(self, time: datetime, snapshot: Snapshot) -> RunState:
        """Return the state at a time, with the roster of this snapshot. Writes of grade tools do not overtake a run."""
        is_current = self.revision is not None and self.belongs_to(snapshot)
        return self.state_at(time, cast(int, self.revision) if is_current else snapshot.revision)

    def belongs_to(self, snapshot: Snapshot) -> bool:
        """Return True if the roster has not changed since the run; a held run allows writes of grade tools."""
        if self.roster_version is None:
            return self.revision == snapshot.revision
        return only_tools_wrote(RosterVersion(*self.roster_version), roster_version(snapshot))

    def to_dict(self, state: RunState) -> dict[str, Any]:
        """Return the JSON object for users, with the state that `state_at` returned."""
        return {
            **self.report,
            "state": state,
            "who": self.who,
            "started": self.started,
            "options": dict(self.options),
            "settledBy": self.settled_by,
            "settled": self.settled,
        }

    def encode(self) -> bytes:
        """Return the stored JSON."""
        return orjson.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    def to_record(self) -> Record:
        """Return the record of the collection `imports`."""
        values = {"started": self.started, "state": self.state, "package": self.sha256 or ""}
        return Record(self.id, self.encode(), values)

    def with_result(self, state: RunState, report: ImportReport, revision: int | None) -> ImportRun:
        """Return the run of an approved package after the import, with its report and the reasons of the hold."""
        new_report = summary(report, state) | {"brake": self.report["brake"]}
        return replace(self, state=state, revision=revision, report=new_report, roster_version=None)

    def with_decision(self, state: RunState, user: str, time: datetime) -> ImportRun:
        """Return the held run after a user has approved or discarded it."""
        report = {**self.report, "state": state}
        return replace(self, state=state, settled_by=user, settled=format_timestamp(time), report=report)


def summary(report: ImportReport, state: RunState) -> dict[str, Any]:
    """Return the JSON object of a report without any cell of the package."""
    data = report.to_dict() | {"state": state}
    lists = ("errors", "warnings", "quarantinedRows")
    return data | {name: [without_values(problem) for problem in data[name]] for name in lists}


def find_run(snapshot: Snapshot, run_id: str) -> ImportRun | None:
    """Return the stored run with this id."""
    body = snapshot.get_many(COLLECTION, [run_id]).get(run_id)
    return None if body is None else _decode(body)


def find_rejected_run(folder: Path, tenant: str, run_id: str) -> ImportRun | None:
    """Return the rejected run with this id. Raises OSError."""
    if _RUN_ID.fullmatch(run_id) is None:
        return None
    return next(_read_runs([run_files.folder_for(folder, tenant) / f"{run_id}.json"]), None)


def rejected_run_ids(folder: Path, tenant: str) -> list[str]:
    """Return the ids of the rejected runs of a tenant."""
    return [path.stem for path in _rejected_paths(run_files.folder_for(folder, tenant))]


def find_last_committed_run(snapshot: Snapshot) -> ImportRun | None:
    """Return the last run that changed the roster, or None."""
    return next(_newest_runs(snapshot, Compare("state", "=", "committed"), limit=1), None)


def find_last_current_run(snapshot: Snapshot) -> ImportRun | None:
    """Return the last run whose package was applied, or contained nothing new; None if there is none."""
    return next(_newest_runs(snapshot, In("state", ("committed", "unchanged")), limit=1), None)


def find_run_with_timestamp(snapshot: Snapshot, timestamp: str) -> ImportRun | None:
    """Return the run that wrote records with this `dateLastModified`, or None if it is not among the stored ones."""
    where = And((Compare("state", "=", "committed"), Compare("started", "<=", timestamp)))
    runs = _newest_runs(snapshot, where, limit=MAX_COMPARED_RUNS)
    return next((run for run in runs if run.report["dateLastModified"] == timestamp), None)


def find_same_package(
    snapshot: Snapshot, states: Sequence[RunState], sha256: str, options: Mapping[str, Any]
) -> ImportRun | None:
    """Return a run of the same package and options, in one of these states, after which the roster has not changed."""
    for run in _stored_runs(snapshot, And((Compare("package", "=", sha256), In("state", tuple(states))))):
        if run.belongs_to(snapshot) and _without_limits(run.options) == _without_limits(options):
            return run
    return None


def store_run(transaction: Transaction, run: ImportRun, time: datetime) -> None:
    """Store a run, and delete the runs that are older than `RETENTION`."""
    old_keys = list(transaction.keys(COLLECTION, Compare("started", "<", format_timestamp(time - RETENTION))))
    transaction.delete(COLLECTION, old_keys)
    transaction.put(COLLECTION, [run.to_record()])


def store_rejected_run(folder: Path, run: ImportRun) -> None:
    """Write the file of a rejected run, and delete old ones. Raises OSError."""
    tenant_folder = run_files.folder_for(folder, run.tenant)
    run_files.write_file(tenant_folder / f"{run.id}.json", run.encode())
    newest_first = sorted(_rejected_runs(tenant_folder), key=lambda run: run.started, reverse=True)
    oldest = format_timestamp(utc_now() - RETENTION)
    for index, stored_run in enumerate(newest_first):
        if index >= MAX_REJECTED_RUNS or stored_run.started < oldest:
            (tenant_folder / f"{stored_run.id}.json").unlink(missing_ok=True)


def list_runs(snapshot: Snapshot, folder: Path, tenant: str) -> list[ImportRun]:
    """Return all runs of a tenant, stored and rejected, oldest first. Raises OSError."""
    oldest = format_timestamp(utc_now() - RETENTION)
    runs = [*_stored_runs(snapshot, MATCH_ALL), *_rejected_runs(run_files.folder_for(folder, tenant))]
    return sorted((run for run in runs if run.started >= oldest), key=lambda run: (run.started, run.id))


def runs_to_keep(snapshot: Snapshot, time: datetime) -> set[str]:
    """Return the ids of the held runs that can be approved."""
    runs = _stored_runs(snapshot, Compare("state", "=", "held"))
    return {run.id for run in runs if run.current_state(time, snapshot) == "held"}


def _stored_runs(snapshot: Snapshot, where: Where) -> Iterator[ImportRun]:
    body = snapshot.find(Query(COLLECTION, where)).body()
    return (ImportRun(**data) for data in orjson.loads(b"[%s]" % body))


def _newest_runs(snapshot: Snapshot, where: Where, *, limit: int) -> Iterator[ImportRun]:
    body = snapshot.find(Query(COLLECTION, where, (OrderBy("started", descending=True),), limit=limit)).body()
    return (ImportRun(**data) for data in orjson.loads(b"[%s]" % body))


def _rejected_runs(tenant_folder: Path) -> Iterator[ImportRun]:
    return _read_runs(_rejected_paths(tenant_folder))


def _rejected_paths(tenant_folder: Path) -> Iterator[Path]:
    return tenant_folder.glob("run-*.json") if tenant_folder.is_dir() else iter(())


def _read_runs(paths: Iterable[Path]) -> Iterator[ImportRun]:
    for path in paths:
        # Another program wrote the file, or another process has deleted it since.
        with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
            yield _decode(path.read_bytes())


def _decode(body: bytes) -> ImportRun:
    return ImportRun(**orjson.loads(body))


def _without_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that affect the result of a package. Limits do not affect a package that was read before."""
    return {name: value for name, value in options.items() if name != "limits"}
