"""Changes of the state of a job, each within a transaction of its tenant and with its audit event.

`Job.attempt` counts the starts of a job. A change names its start, so that only the latest start can end the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from backends import Compare, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.jobs.record import COLLECTION, RETENTION, Job, find_job
from chalk_flask.times import format_precise_timestamp

__all__ = ["JobSupersededError", "cancel", "enqueue", "fail", "finish", "release_upload", "requeue", "start", "store"]


class JobSupersededError(Exception):
    """Signal that another process has changed a job: it was started again, ended or deleted."""


def enqueue(transaction: Transaction, job: Job, now: datetime) -> None:
    """Store a queued job, and delete the jobs that are older than `RETENTION`."""
    oldest = format_precise_timestamp(now - RETENTION)
    transaction.delete(COLLECTION, list(transaction.keys(COLLECTION, Compare("created", "<", oldest))))
    store(transaction, job)
    _record(transaction, job, "job.queued", now, by=job.requested_by)


def start(transaction: Transaction, job: Job, now: datetime) -> Job:
    """Return the running job. Raises JobSupersededError if it is no longer queued."""
    _check(transaction, job)
    started = job.started or format_precise_timestamp(now)
    return store(transaction, replace(job, state="running", started=started, attempt=job.attempt + 1))


def requeue(transaction: Transaction, job: Job, *, is_crash: bool) -> Job:
    """Return the queued job, which was running. Raises JobSupersededError."""
    _check(transaction, job)
    return store(transaction, replace(job, state="queued", crashes=job.crashes + is_crash))


def finish(transaction: Transaction, job: Job, run: str | None, report: Mapping[str, Any], now: datetime) -> Job:
    """Return the finished job, which was running. Raises JobSupersededError."""
    _check(transaction, job)
    finished = replace(job, state="finished", run=run, report=report, finished=format_precise_timestamp(now))
    _record(transaction, job, "job.finished", now, result=finished.result, run=run)
    return store(transaction, finished)


def fail(transaction: Transaction, job: Job, message: str, now: datetime) -> Job:
    """Return the failed job. Raises JobSupersededError."""
    _check(transaction, job)
    _record(transaction, job, "job.failed", now)
    return store(transaction, replace(job, state="failed", message=message, finished=format_precise_timestamp(now)))


def cancel(transaction: Transaction, job: Job, user: str, now: datetime) -> Job:
    """Return the canceled job, which was queued. Raises JobSupersededError."""
    _check(transaction, job)
    _record(transaction, job, "job.canceled", now, by=user)
    return store(transaction, replace(job, state="canceled", finished=format_precise_timestamp(now)))


def release_upload(transaction: Transaction, job: Job) -> None:
    """Store that the package of a dry run is no longer kept. A second call does nothing."""
    stored = find_job(transaction, job.id)
    if stored is not None and stored.can_be_imported:
        store(transaction, replace(stored, upload=None))


def store(transaction: Transaction, job: Job) -> Job:
    """Store a job and return it."""
    transaction.put(COLLECTION, [job.to_record()])
    return job


def _check(transaction: Transaction, job: Job) -> None:
    stored = find_job(transaction, job.id)
    if stored is None or (stored.state, stored.attempt) != (job.state, job.attempt):
        raise JobSupersededError(job.id)


def _record(transaction: Transaction, job: Job, event: str, now: datetime, **members: str | None) -> None:
    record_event(transaction, job.tenant, event, now, job=job.id, kind=job.kind, **members)
