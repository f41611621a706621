"""Short forms of imports, as lists and charts show them: import runs, and jobs without a run.

The short form of an import that has ended is cached, because it no longer changes. A list of many imports therefore
reads only the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flask import current_app

from backends import And, Backend, Compare, In, Snapshot
from chalk_flask.caching import LRUCache
from chalk_flask.console.context import current_services
from chalk_flask.jobs.record import COLLECTION as JOBS
from chalk_flask.jobs.record import Job, find_job
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.times import format_timestamp, utc_now

__all__ = ["ImportHistory", "ImportSummary", "import_history"]

MAX_CACHED_SUMMARIES: Final = 10_000
ENDED_JOB_STATES: Final = ("finished", "failed", "canceled")

_EXTENSION: Final = "chalk_import_history"
_NO_TOTAL: Final[Mapping[str, int]] = dict.fromkeys(
    ("rows", "created", "updated", "deleted", "revived", "unchanged"), 0
)


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """Short form of an import run, or of a job without one.

    `id` is that of the run or of the job. `state` is the state of the run, or of the job if it has no report. `total`
    has the number of rows, and of records by outcome. `run` is the run of a job.
    """

    id: str
    state: str
    started: str
    who: str
    package: str
    total: Mapping[str, int]
    errors: int = 0
    quarantined: int = 0
    is_dry_run: bool = False
    run: str | None = None

    @property
    def day(self) -> str:
        """Day of the import in UTC, such as `2026-01-31`."""
        return self.started[:10]

    @property
    def has_changes(self) -> bool:
        """True if `total` says what the package changed or would change. A rejected one was not compared in full."""
        return self.state not in ("refused", "failed", "canceled")

    @property
    def is_applied(self) -> bool:
        """True if the roster equaled the package after the import: it was applied, or there was nothing to do."""
        return self.state in ("committed", "unchanged")


class ImportHistory:
    """Imports of all tenants of a store. Thread-safe."""

    def __init__(self, store: Backend, folder: Path, now: Callable[[], datetime] = utc_now) -> None:
        self._store, self._folder, self._now = store, folder, now
        self._cache: LRUCache[tuple[str, str], ImportSummary] = LRUCache(MAX_CACHED_SUMMARIES)

    def recent(self, tenant: str) -> list[ImportSummary]:
        """Return the imports of the last 90 days that are not running, newest first. Raises StorageError and OSError.

        They are the import runs, also rejected ones, and the jobs that led to no run: dry runs, failed and canceled
        jobs.
        """
        now = self._now()
        oldest = format_timestamp(now - history.RETENTION)
        with self._store.read(tenant) as snapshot:
            runs = [*self._stored_runs(snapshot, tenant, oldest, now), *self._rejected_runs(tenant, oldest)]
            run_ids = {run.id for run in runs}
            jobs = [job for job in self._jobs(snapshot, tenant, oldest) if job.run is None or job.run not in run_ids]
        return sorted([*runs, *jobs], key=lambda summary: (summary.started, summary.id), reverse=True)

    def _stored_runs(self, snapshot: Snapshot, tenant: str, oldest: str, now: datetime) -> Iterator[ImportSummary]:
        found, missing = self._look_up(tenant, snapshot.keys(history.COLLECTION, Compare("started", ">=", oldest)))
        yield from found
        for run_id in missing:
            run = history.find_run(snapshot, run_id)
            if run is None:
                continue
            if run.state == "held":  # it can expire, and be approved or discarded
                yield _run_summary(run, run.current_state(now, snapshot))
            else:
                yield self._add_to_cache(tenant, _run_summary(run, run.state))

    def _rejected_runs(self, tenant: str, oldest: str) -> Iterator[ImportSummary]:
        found, missing = self._look_up(tenant, history.rejected_run_ids(self._folder, tenant))
        for run_id in missing:
            run = history.find_rejected_run(self._folder, tenant, run_id)
            if run is not None:
                found.append(self._add_to_cache(tenant, _run_summary(run, run.state)))
        return (summary for summary in found if summary.started >= oldest)

    def _jobs(self, snapshot: Snapshot, tenant: str, oldest: str) -> Iterator[ImportSummary]:
        ended = And((Compare("created", ">=", oldest), In("state", ENDED_JOB_STATES)))
        found, missing = self._look_up(tenant, snapshot.keys(JOBS, ended))
        yield from found
        for job_id in missing:
            job = find_job(snapshot, job_id)
            if job is not None:
                yield self._add_to_cache(tenant, _job_summary(job))

    def _look_up(self, tenant: str, ids: Iterable[str]) -> tuple[list[ImportSummary], list[str]]:
        """Return the cached summaries of these ids, and the ids without one."""
        found, missing = [], []
        for key in ids:
            summary = self._cache.get((tenant, key))
            if summary is None:
                missing.append(key)
            else:
                found.append(summary)
        return found, missing

    def _add_to_cache(self, tenant: str, summary: ImportSummary) -> ImportSummary:
        self._cache.put((tenant, summary.id), summary)
        return summary


def import_history() -> ImportHistory:
    """Return the import history of the application."""
    found: Any = current_app.extensions.get(_EXTENSION)
    if found is None:
        services = current_services()
        found = current_app.extensions[_EXTENSION] = ImportHistory(services.store, store_folder(services.settings))
    history_of_app: ImportHistory = found
    return history_of_app


def _run_summary(run: ImportRun, state: str) -> ImportSummary:
    return ImportSummary(run.id, state, run.started, run.who, str(run.report["package"]), *_numbers(run.report))


def _job_summary(job: Job) -> ImportSummary:
    state = job.result or job.state
    numbers = (dict(_NO_TOTAL), 0, 0) if job.report is None else _numbers(job.report)
    run = job.run if job.kind != "dry_run" and job.state == "finished" else None
    return ImportSummary(
        job.id, state, job.created, job.requested_by, job.package, *numbers, is_dry_run=job.kind == "dry_run", run=run
    )


def _numbers(report: Mapping[str, Any]) -> tuple[Mapping[str, int], int, int]:
    """Return the totals, the number of errors, and the number of quarantined rows of a report."""
    return dict(report["total"]), report["errorCount"], sum(report.get("quarantined", {}).values())
