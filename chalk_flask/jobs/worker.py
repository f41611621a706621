"""Worker that runs the queued jobs of all tenants, one after the other, oldest first, and deletes tenants.

The leader lock elects one worker among all processes of a store.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from backends import CONTROL, Backend
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.background.polling_thread import PollingThread
from chalk_flask.jobs.job_runners import JobRunner, ProcessRunner, ThreadRunner
from chalk_flask.jobs.lifecycle import JobSupersededError
from chalk_flask.jobs.overdue_imports import enqueue_overdue
from chalk_flask.jobs.record import ACTIVE_STATES, Job, list_jobs
from chalk_flask.jobs.retention import remove_old_history, remove_unused
from chalk_flask.jobs.store import JobError, JobStore
from chalk_flask.jobs.tenant_deletion import TenantDeletions
from chalk_flask.settings import Settings
from chalk_flask.sources import SyncSchedule
from chalk_flask.tenants.store import TenantError, TenantStore
from chalk_flask.times import utc_now

__all__ = ["JobWorker"]

log = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS: Final = 1.0
"""Interval at which the worker looks for jobs of other processes. Jobs of this process wake it."""
ERROR_PAUSE_SECONDS: Final = 5.0
"""Pause after a failure of the store."""
CLEANUP_INTERVAL_SECONDS: Final = 3600.0
OVERDUE_INTERVAL_SECONDS: Final = 300.0
SYNC_INTERVAL_SECONDS: Final = 10.0
"""Interval at which the worker looks for syncs that are due."""
SCHEDULER: Final = "schedule"
"""Name in place of an administrator for syncs that the worker queues."""
STOP_TIMEOUT_SECONDS: Final = 10.0
MAX_CRASHES: Final = 2
"""Number of crashes after which a job has failed."""

CRASH_MESSAGE: Final = (
    "the process of this job ended twice without a result, for example because memory ran out or the machine stopped."
    " Nothing was changed. Check the log of the service, and upload the package again"
)

_NEVER_READ: Final = object()
"""Marker for the version of a tenant that the worker has not read yet."""


class JobWorker:
    """Background worker of the jobs of a store, from `start` to `close`, in a thread of its own.

    While another process holds the leader lock, or a process of an earlier service still runs a job, it waits.
    """

    def __init__(
        self,
        store: Backend,
        jobs: JobStore,
        settings: Settings,
        leader_lock: LeaderLock,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store, self._jobs, self._leader_lock, self._now = store, jobs, leader_lock, now
        self._deletions, self._overdue_hours = TenantDeletions(store, settings), settings.overdue_hours
        self._history_days = settings.history_days
        self._runner: JobRunner = (
            ProcessRunner(settings, jobs.folder) if store.shared else ThreadRunner(store, settings, jobs)
        )
        self._thread = PollingThread("jobs", self._poll, _log_error, error_pause=ERROR_PAUSE_SECONDS)
        self._running = threading.Lock()
        self._control_version: object = _NEVER_READ
        self._versions: dict[str, object] = {}
        self._active: dict[str, list[Job]] = {}
        self._schedule = SyncSchedule(store)
        self._next_cleanup = self._next_overdue_check = self._next_sync_check = 0.0
        jobs.on_enqueue = self.wake

    def start(self) -> None:
        """Start to run jobs as soon as this process holds the leader lock. Call it once."""
        self._thread.start()

    def is_running_anywhere(self) -> bool:
        """Return True if a worker of this process or of another one runs the jobs of the store.

        Takes microseconds. After the start of a worker, it may take a second to become True. Raises OSError if the lock
        file cannot be read.
        """
        return self._leader_lock.has_holder()

    def wake(self) -> None:
        """Look for queued jobs and deletions of tenants now."""
        self._thread.wake()

    def close(self) -> None:
        """Stop within seconds. A running job is stopped before it changes anything, and is queued again."""
        self._thread.stop(STOP_TIMEOUT_SECONDS)
        self._leader_lock.release()

    def run_pending(self) -> None:
        """Run all queued jobs and due syncs in the calling thread, and finish deletions.

        Raises StorageError and OSError.
        """
        self._enqueue_syncs()
        while self._run_next():
            pass
        self._finish_deletions()

    def _poll(self) -> float:
        self._leader_lock.try_acquire()  # also without jobs, so that the lock shows that there is a worker
        self._clean_up()
        self._enqueue_overdue()
        self._enqueue_syncs()
        while self._run_next() and not self._thread.stopping.is_set():
            pass
        self._finish_deletions()
        return POLL_INTERVAL_SECONDS

    def _clean_up(self) -> None:
        """Delete old jobs, changes and files, and retry deletions of tenants that failed, once per hour."""
        if time.monotonic() >= self._next_cleanup:
            self._next_cleanup = time.monotonic() + CLEANUP_INTERVAL_SECONDS
            remove_unused(self._store, self._jobs.folder, self._now())
            remove_old_history(self._store, self._history_days, self._now(), self._thread.stopping)
            self._deletions.retry()

    def _finish_deletions(self) -> None:
        if self._leader_lock.try_acquire():
            self._deletions.finish(self._thread.stopping)

    def _enqueue_overdue(self) -> None:
        """Queue the events about overdue imports, once per OVERDUE_INTERVAL_SECONDS, if the setting says so."""
        if self._overdue_hours and time.monotonic() >= self._next_overdue_check and self._leader_lock.try_acquire():
            self._next_overdue_check = time.monotonic() + OVERDUE_INTERVAL_SECONDS
            enqueue_overdue(self._store, self._overdue_hours, self._now())

    def _enqueue_syncs(self) -> None:
        """Queue the syncs that are due, once per SYNC_INTERVAL_SECONDS. One of a tenant runs at a time."""
        if time.monotonic() >= self._next_sync_check and self._leader_lock.try_acquire():
            self._next_sync_check = time.monotonic() + SYNC_INTERVAL_SECONDS
            for source in self._schedule.due(self._now()):
                with contextlib.suppress(JobError, TenantError):  # too many jobs are queued, or it was deleted
                    self._jobs.sync(source.tenant, source.name, requested_by=SCHEDULER)

    def _run_next(self) -> bool:
        """Run the oldest queued job; return False if there is none that this process can run."""
        with self._running:
            active = self._active_jobs()
            if not active or not self._leader_lock.try_acquire() or self._runner.is_busy():
                return False
            queued = [job for job in active if job.state == "queued"]
            for job in active:
                if job.state == "running":  # its process has ended with the service that started it
                    with contextlib.suppress(JobSupersededError):
                        self._finish_or_requeue(job, is_crash=True)
            return self._run_job(queued[0]) if queued else True

    def _run_job(self, job: Job) -> bool:
        """Run a job. Return False if it was stopped: the service is probably stopping too."""
        has_ended = True
        with contextlib.suppress(JobSupersededError):
            running = self._jobs.start(job)
            has_ended = self._runner.run(running, self._thread.stopping)
            self._finish_or_requeue(running, is_crash=has_ended)
        return has_ended

    def _finish_or_requeue(self, job: Job, *, is_crash: bool) -> None:
        """Delete the files of a job that has ended. Queue it again if it has no result, unless it crashed before."""
        stored = self._jobs.get(job.tenant, job.id)
        if stored is not None and (stored.state, stored.attempt) == ("running", job.attempt):
            if is_crash and job.crashes + 1 >= MAX_CRASHES:
                stored = self._jobs.fail(stored, CRASH_MESSAGE)
            else:
                log.warning("job %s of tenant %s is queued again: it ended without a result", job.id, job.tenant)
                stored = self._jobs.requeue(stored, is_crash=is_crash)
        if stored is None or not stored.is_active:
            self._jobs.remove_files(stored or job)

    def _active_jobs(self) -> list[Job]:
        """Return the queued and running jobs of all tenants, oldest first."""
        for name in self._tenant_names():
            version = self._store.version(name)
            if self._versions[name] != version:
                with self._store.read(name) as snapshot:
                    self._active[name] = list_jobs(snapshot, *ACTIVE_STATES)
                self._versions[name] = version
        return sorted((job for jobs in self._active.values() for job in jobs), key=lambda job: (job.created, job.id))

    def _tenant_names(self) -> Mapping[str, object]:
        version = self._store.version(CONTROL)
        if version != self._control_version:
            names = [tenant.name for tenant in TenantStore(self._store).list()]
            self._versions = {name: self._versions.get(name, _NEVER_READ) for name in names}
            self._active = {name: self._active.get(name, []) for name in names}
            self._control_version = version
        return dict(self._versions)


def _log_error(level: int, message: str) -> None:
    log.log(level, "jobs are paused for %.0f seconds: %s", ERROR_PAUSE_SECONDS, message)
