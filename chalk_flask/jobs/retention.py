"""Deletion of old jobs and old changes of records, and of files below the setting `data` that no job needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

from backends import Backend, Compare
from chalk_flask.jobs import lifecycle
from chalk_flask.jobs.record import ALL_STATES, COLLECTION, RETENTION, Job, list_jobs
from chalk_flask.roster.changes.history_retention import history_days, remove_expired_history
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import format_precise_timestamp

__all__ = ["KEEP_PERIOD", "remove_old_history", "remove_tenant_files", "remove_unused"]

KEEP_PERIOD: Final = timedelta(days=1)
"""Time for which the package of a dry run, or of an upload that was never queued, is kept."""

_UPLOAD: Final = re.compile(r"upload-[0-9a-f]{32}\.zip|\.upload-[0-9a-f]{32}\.part")
_PROGRESS: Final = re.compile(r"(job-[0-9a-f-]{36})\.(json|part)")


def remove_unused(store: Backend, folder: Path, now: datetime) -> None:
    """Delete jobs older than `RETENTION`, packages that no job needs, and the progress of jobs that have ended.

    `folder` is that of `jobs_folder`. A file that cannot be deleted stays until the next call. Raises StorageError.
    """
    for name in store.tenants():
        with store.read(name) as snapshot:
            has_old = snapshot.exists(COLLECTION, _older_than(now - RETENTION))
        if has_old:
            with store.write(name) as transaction:
                transaction.delete(COLLECTION, list(transaction.keys(COLLECTION, _older_than(now - RETENTION))))
    for tenant_folder in _subfolders(folder):
        with contextlib.suppress(OSError):
            _remove_unused_files(store, tenant_folder, now)


def remove_old_history(store: Backend, default_days: int, now: datetime, stopping: Event | None = None) -> None:
    """Delete the changes of records that are older than the retention period of their tenant.

    Ends early when `stopping` is set. Raises StorageError.
    """
    for tenant in TenantStore(store).list():
        days = history_days(store, tenant.name, default_days)
        remove_expired_history(store, tenant.name, days, now, stopping)


def remove_tenant_files(folder: Path, tenant: str) -> None:
    """Delete the packages and progress files of a tenant. Raises OSError."""
    tenant_folder = folder / tenant
    for path in list(tenant_folder.iterdir()) if tenant_folder.is_dir() else ():
        if _is_job_file(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder contains other files
        tenant_folder.rmdir()


def _older_than(time: datetime) -> Compare:
    return Compare("created", "<", format_precise_timestamp(time))


def _subfolders(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from [path for path in folder.iterdir() if path.is_dir()]


def _remove_unused_files(store: Backend, tenant_folder: Path, now: datetime) -> None:
    paths = list(tenant_folder.iterdir())
    if not paths:
        return
    with store.read(tenant_folder.name) as snapshot:
        jobs = list_jobs(snapshot, *ALL_STATES)
    if expired := [job for job in jobs if _is_expired(job, now)]:
        with store.write(tenant_folder.name) as transaction:
            for job in expired:
                lifecycle.release_upload(transaction, job)
            jobs = list_jobs(transaction, *ALL_STATES)
    needed = {job.upload for job in jobs if job.is_active or job.can_be_imported}
    needed |= {name for job in jobs if job.is_active for name in (f"{job.id}.json", f"{job.id}.part")}
    owned = {job.upload for job in [*jobs, *expired]}
    oldest = (now - KEEP_PERIOD).timestamp()
    for path in paths:
        if path.name in needed or not _is_job_file(path.name):
            continue
        # The job of a recent upload may not be queued yet.
        if path.name in owned or _PROGRESS.fullmatch(path.name) or path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _is_expired(job: Job, now: datetime) -> bool:
    """Return True for a dry run whose package was kept for longer than `KEEP_PERIOD`."""
    return job.can_be_imported and (job.finished or "") < format_precise_timestamp(now - KEEP_PERIOD)


def _is_job_file(name: str) -> bool:
    return bool(_UPLOAD.fullmatch(name) or _PROGRESS.fullmatch(name))
