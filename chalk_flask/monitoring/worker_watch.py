"""Watch that warns in the log while no process runs the workers of a store, as `/readyz` does."""

from __future__ import annotations

import logging
from typing import Final

from backends import Backend
from chalk_flask.background.polling_thread import PollingThread
from chalk_flask.jobs import JobWorker
from chalk_flask.jobs.record import ACTIVE_STATES, list_jobs
from chalk_flask.logs import log_event
from chalk_flask.outbox import load_subscriptions
from chalk_flask.services import Services
from chalk_flask.sources.record import list_sources
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks import Worker

__all__ = ["WorkerWatch"]

log = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS: Final = 10.0
"""Interval of the checks. A worker takes about a second to start, so two checks in a row must find none."""


class WorkerWatch:
    """Background check, from `start` to `close`, in a thread of its own.

    It logs `worker.missing` when two checks in a row find no worker, and once more when work waits for it. Such work is
    active webhooks, scheduled sources, unfinished jobs, and unfinished deletions of tenants. It logs `worker.found`
    when there is a worker again.
    """

    def __init__(self, services: Services, interval: float = CHECK_INTERVAL_SECONDS) -> None:
        self._store: Backend = services.store
        self._webhook_worker: Worker = services.worker
        self._job_worker: JobWorker = services.job_worker
        self._interval = interval
        self._thread = PollingThread(
            "worker watch", self._poll, _log_error, error_pause=interval, delay=interval, level=logging.DEBUG
        )
        self._misses = 0
        self._logged: str | None = None
        """Kinds of work in the last warning; None without one since a worker ran."""

    def start(self) -> None:
        """Start to check. Call it once."""
        self._thread.start()

    def close(self) -> None:
        """Stop at once."""
        self._thread.stop()

    def check(self) -> None:
        """Log a warning if no process runs the workers, and a message when a process runs them again.

        Raises StorageError and OSError.
        """
        waiting = self._waiting_work()
        if waiting is None:
            if self._logged is not None:
                log_event(log, logging.INFO, "worker.found", "a process sends webhooks and runs jobs of this store")
            self._misses, self._logged = 0, None
            return
        self._misses += 1
        if self._misses >= 2 and (self._logged is None or (waiting and not self._logged)):
            message = "no process sends webhooks and runs jobs of this store: start `chalk-flask worker`"
            log_event(log, logging.WARNING, "worker.missing", message, waiting=waiting or None)
            self._logged = waiting

    def _poll(self) -> float:
        self.check()
        return self._interval

    def _waiting_work(self) -> str | None:
        """Return the kinds of work that wait for a worker, for the log; None if all workers run."""
        no_webhook_worker = not self._webhook_worker.is_running_anywhere()
        no_job_worker = not self._job_worker.is_running_anywhere()
        if not (no_webhook_worker or no_job_worker):
            return None
        tenants, kinds = TenantStore(self._store), set()
        if no_job_worker and tenants.unfinished_deletions():
            kinds.add("deletions")
        for tenant in tenants.list():
            with self._store.read(tenant.name) as snapshot:
                if no_webhook_worker and any(item.state == "active" for item in load_subscriptions(snapshot)):
                    kinds.add("webhooks")
                if no_job_worker and list_jobs(snapshot, *ACTIVE_STATES):
                    kinds.add("jobs")
                if no_job_worker and any(source.at or source.every_seconds for source in list_sources(snapshot)):
                    kinds.add("syncs")
        return " and ".join(sorted(kinds, reverse=True))


def _log_error(level: int, message: str) -> None:
    log.log(level, "cannot look for workers: %s", message)
