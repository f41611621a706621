"""Store of the jobs of all tenants, and their files below the setting `data`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from backends import CONTROL, Backend, Compare, Query, Snapshot, Transaction
from chalk_flask.jobs import lifecycle
from chalk_flask.jobs.progress import JobProgress, ProgressFile
from chalk_flask.jobs.record import ACTIVE_STATES, ALL_STATES, COLLECTION, Job, JobKind, find_job, list_jobs, new_job_id
from chalk_flask.jobs.uploads import clean_file_name, store_upload
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.tenant_imports import ImportChoices
from chalk_flask.settings import Settings
from chalk_flask.sources import record_queued
from chalk_flask.tenants.store import require_tenant
from chalk_flask.times import format_precise_timestamp, utc_now

__all__ = ["JobError", "JobStore", "QueueFullError", "jobs_folder"]

MAX_QUEUED_JOBS: Final = 20
"""Maximum number of queued jobs of a tenant, so that uploads cannot fill the disk."""
MAX_FIELDS_BYTES: Final = 65536
"""Maximum size of the other fields of a form with a package."""
LOCK_TIMEOUT_SECONDS: Final = 30.0
"""Maximum time that a request waits for another writer. A running import may write for many seconds."""

_NO_CHOICES: Final = ImportChoices()


class JobError(Exception):
    """Error for a job that cannot be queued or canceled. The message contains the reason and the remedy."""


class QueueFullError(JobError):
    """Error for a job that cannot be queued because of the other ones."""


def jobs_folder(settings: Settings) -> Path:
    """Return the folder for uploads and progress. Stores of earlier versions may share the setting `data`."""
    return Path(settings.data) / "jobs" / store_folder(settings).name


class JobStore:
    """Jobs of a store. Thread-safe, also among processes.

    `folder` is that of `jobs_folder`. `max_upload_bytes` is the maximum size of an uploaded package. `on_enqueue` is
    called after a job is queued.
    """

    def __init__(
        self, store: Backend, folder: Path, max_upload_bytes: int, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.folder = folder
        self.max_upload_bytes = max_upload_bytes
        self.on_enqueue: Callable[[], None] = _do_nothing
        self._store, self._now = store, now

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of a request with a package, which may be the file of a form with other fields."""
        return self.max_upload_bytes + MAX_FIELDS_BYTES

    @classmethod
    def of(cls, store: Backend, settings: Settings, now: Callable[[], datetime] = utc_now) -> JobStore:
        """Return the jobs of a store with these settings."""
        return cls(store, jobs_folder(settings), settings.upload_max_mb << 20, now)

    def upload_import(
        self,
        tenant: str,
        stream: IO[bytes],
        file_name: str | None,
        *,
        requested_by: str,
        choices: ImportChoices = _NO_CHOICES,
        dry_run: bool = False,
        reuse_active: bool = False,
    ) -> Job:
        """Store a package, and queue its import or dry run. Nothing stays on disk if this raises an error.

        `file_name` is the name that the client sent. With `reuse_active`, a queued or running job with the same
        package and choices is returned instead, so that a client can repeat its request. It is not reused if another
        job that changes the roster was queued after it. Raises UploadError, JobError, TenantError, StorageError and
        OSError.
        """
        self._check_tenant(tenant)
        name = clean_file_name(file_name)
        path = store_upload(self.tenant_folder(tenant), stream, name, self.max_upload_bytes)
        try:
            kind: JobKind = "dry_run" if dry_run else "import"
            job = self._new_job(tenant, kind, requested_by, name)
            job = replace(job, choices=choices, upload=path.name)
            if not reuse_active:
                return self._enqueue(job)
            return self._enqueue_once(replace(job, sha256=_sha256_of(path)))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def import_checked(self, tenant: str, job_id: str, *, requested_by: str) -> Job:
        """Queue the import of the package of a dry run, with the same choices.

        Raises JobError if the package is no longer kept, which is also the case after the first call. Raises
        TenantError and StorageError.
        """
        with self._write(tenant) as transaction:
            checked = find_job(transaction, job_id)
            if checked is None or not checked.can_be_imported or not self.upload_path(checked).is_file():
                raise JobError(
                    "the package of this dry run is no longer kept, or was imported already: upload it again to import"
                    " it"
                )
            _check_queue(transaction)
            lifecycle.release_upload(transaction, checked)
            job = self._new_job(tenant, "import", requested_by, checked.package)
            job = replace(job, choices=checked.choices, upload=checked.upload)
            lifecycle.enqueue(transaction, job, self._now())
        self.on_enqueue()
        return job

    def approve(self, tenant: str, run_id: str, *, requested_by: str) -> Job:
        """Queue the approval of a held import. If its approval is queued or running, return that job.

        Raises JobError if the import is not held, or can only be discarded. Raises TenantError and StorageError.
        """
        with self._write(tenant) as transaction:
            if (active := _active_approval(transaction, run_id)) is not None:
                return active
            run = history.find_run(transaction, run_id)
            if run is None:
                raise JobError(f"there is no held import {run_id[:80]!r}: the list of imports shows all imports")
            if (state := run.current_state(self._now(), transaction)) != "held":
                raise JobError(f"{run_id} cannot be approved: it is {state}")
            _check_queue(transaction)
            job = self._new_job(tenant, "approve", requested_by, str(run.report["package"]))
            job = replace(job, run=run_id)
            lifecycle.enqueue(transaction, job, self._now())
        self.on_enqueue()
        return job

    def sync(self, tenant: str, source: str, *, requested_by: str, full: bool = False) -> Job:
        """Queue the sync of a source; with `full`, of all records. If one of the tenant is active, return that job.

        Raises JobError if there is no such source, TenantError and StorageError.
        """
        with self._write(tenant) as transaction:
            for active in list_jobs(transaction, *ACTIVE_STATES):
                if active.kind == "sync":
                    return active
            _check_queue(transaction)
            if not record_queued(transaction, source, self._now(), full=full):
                raise JobError(f"there is no source {source[:80]!r}: it may have been removed")
            job = self._new_job(tenant, "sync", requested_by, source)
            lifecycle.enqueue(transaction, job, self._now())
        self.on_enqueue()
        return job

    def cancel(self, tenant: str, job_id: str, *, requested_by: str) -> Job:
        """Cancel a queued job and delete its package. Raises JobError if it is not queued, and StorageError."""
        with self._write(tenant) as transaction:
            job = find_job(transaction, job_id)
            if job is None or job.state != "queued":
                state = "unknown" if job is None else job.state
                raise JobError(f"only a queued job can be canceled: {job_id[:80]!r} is {state}")
            canceled = lifecycle.cancel(transaction, job, requested_by, self._now())
        self.remove_files(canceled)
        return canceled

    def get(self, tenant: str, job_id: str) -> Job | None:
        """Return the job of a tenant with this id. Raises StorageError."""
        with self._store.read(tenant) as snapshot:
            return find_job(snapshot, job_id)

    def list(self, tenant: str, limit: int | None = 50) -> Sequence[Job]:
        """Return the jobs of a tenant, newest first. Raises StorageError."""
        with self._store.read(tenant) as snapshot:
            return list_jobs(snapshot, *ALL_STATES, newest_first=True, limit=limit)

    def list_active(self, tenant: str) -> Sequence[Job]:
        """Return the queued and running jobs of a tenant, oldest first. Raises StorageError."""
        with self._store.read(tenant) as snapshot:
            return list_jobs(snapshot, *ACTIVE_STATES)

    def find_approval(self, tenant: str, run_id: str) -> Job | None:
        """Return the queued or running job that approves a run. Raises StorageError."""
        with self._store.read(tenant) as snapshot:
            return _active_approval(snapshot, run_id)

    def progress(self, job: Job) -> JobProgress | None:
        """Return the progress of a job, or None if it is not running."""
        return self.progress_file(job).read() if job.is_active else None

    def start(self, job: Job) -> Job:
        """Return the queued job as running. Raises JobSupersededError and StorageError."""
        with self._store.write(job.tenant) as transaction:
            return lifecycle.start(transaction, job, self._now())

    def requeue(self, job: Job, *, is_crash: bool) -> Job:
        """Queue a running job again. Raises JobSupersededError and StorageError."""
        with self._store.write(job.tenant) as transaction:
            return lifecycle.requeue(transaction, job, is_crash=is_crash)

    def fail(self, job: Job, message: str) -> Job:
        """End a running job without a result. Raises JobSupersededError and StorageError."""
        with self._store.write(job.tenant) as transaction:
            return lifecycle.fail(transaction, job, message, self._now())

    def finish_in(self, transaction: Transaction, job: Job, report: ImportReport, state: RunState) -> Job:
        """End a running job with a report, in the transaction that stores the import run. Raises JobSupersededError."""
        run = None if job.kind == "dry_run" else report.run
        return lifecycle.finish(transaction, job, run, history.summary(report, state), self._now())

    def complete(self, job: Job, report: ImportReport) -> None:
        """Store the final report of a job that was running: its last members are known after the transaction.

        Raises JobSupersededError and StorageError.
        """
        with self._store.write(job.tenant) as transaction:
            stored = find_job(transaction, job.id)
            if stored and (stored.state, stored.attempt, stored.run) == ("finished", job.attempt, report.run):
                lifecycle.store(transaction, replace(stored, report=history.summary(report, report.state)))
            else:
                self.finish_in(transaction, job, report, report.state)

    def tenant_folder(self, tenant: str) -> Path:
        """Return the folder of a tenant. Names of tenants are valid file names on all systems."""
        return self.folder / tenant

    def upload_path(self, job: Job) -> Path:
        """Return the path of the package of a job that has one."""
        assert job.upload is not None
        return self.tenant_folder(job.tenant) / job.upload

    def progress_file(self, job: Job) -> ProgressFile:
        """Return the file with the progress of a job."""
        return ProgressFile(self.tenant_folder(job.tenant) / f"{job.id}.json")

    def remove_files(self, job: Job) -> None:
        """Delete the files that a job no longer needs. `retention.remove_unused` tries again if this fails."""
        self.progress_file(job).remove()
        if job.upload is not None and not job.can_be_imported:
            with contextlib.suppress(OSError):
                self.upload_path(job).unlink(missing_ok=True)

    def _new_job(self, tenant: str, kind: JobKind, requested_by: str, package: str) -> Job:
        created = format_precise_timestamp(self._now())
        return Job(
            id=new_job_id(), tenant=tenant, kind=kind, requested_by=requested_by, created=created, package=package
        )

    def _enqueue(self, job: Job) -> Job:
        with self._write(job.tenant) as transaction:
            _check_queue(transaction)
            lifecycle.enqueue(transaction, job, self._now())
        self.on_enqueue()
        return job

    def _enqueue_once(self, job: Job) -> Job:
        """Queue a job, or delete its package and return the active job for the same package and choices."""
        with self._write(job.tenant) as transaction:
            active = _active_repetition(transaction, job)
            if active is None:
                _check_queue(transaction)
                lifecycle.enqueue(transaction, job, self._now())
        if active is not None:
            self.remove_files(job)
        self.on_enqueue()
        return active or job

    @contextlib.contextmanager
    def _write(self, tenant: str) -> Iterator[Transaction]:
        """Yield a transaction of an existing tenant. Raises TenantError and StorageError."""
        with self._store.write(tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
            self._check_tenant(tenant)
            yield transaction

    def _check_tenant(self, name: str) -> None:
        with self._store.read(CONTROL) as control:
            require_tenant(control, name)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _active_approval(snapshot: Snapshot, run_id: str) -> Job | None:
    jobs = list_jobs(snapshot, *ACTIVE_STATES)
    return next((job for job in jobs if (job.kind, job.run) == ("approve", run_id)), None)


def _active_repetition(snapshot: Snapshot, job: Job) -> Job | None:
    """Return the active job with the same package and choices, unless a later one changes the roster."""
    for active in reversed(list_jobs(snapshot, *ACTIVE_STATES)):
        if (active.kind, active.sha256, active.choices) == (job.kind, job.sha256, job.choices):
            return active
        if active.kind != "dry_run":
            return None
    return None


def _check_queue(transaction: Transaction) -> None:
    queued = transaction.find(Query(COLLECTION, Compare("state", "=", "queued"), limit=0)).total
    if queued >= MAX_QUEUED_JOBS:
        raise QueueFullError(f"{queued} jobs of this tenant are queued already: wait until some of them are finished")


def _do_nothing() -> None:
    """Do nothing: the default of `on_enqueue`."""
