"""Execution of one job: import, dry run, approval or sync, with the same functions as the command line.

The transaction that stores the import run also ends the job. So a job with an effect is never run again.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Final

from backends import Backend, StorageError, Transaction
from chalk_flask.files import make_private_folder
from chalk_flask.jobs.lifecycle import JobSupersededError
from chalk_flask.jobs.progress import ProgressWriter
from chalk_flask.jobs.record import Job
from chalk_flask.jobs.store import JobStore
from chalk_flask.logs import log_event
from chalk_flask.roster.imports import OnProgress
from chalk_flask.roster.imports.approval import ApprovalError
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.roster.package.parser_process import ParserProcessError
from chalk_flask.roster.tenant_imports import approve_import, run_import
from chalk_flask.settings import Settings, SettingsError
from chalk_flask.sources import SourceError, sync_source
from chalk_flask.tenants.store import TenantError
from chalk_flask.tracebacks import error_location

__all__ = ["StopRequestedError", "execute"]

log = logging.getLogger(__name__)

_EXPECTED_ERRORS: Final = (ApprovalError, ParserProcessError, SettingsError, SourceError, StorageError, TenantError)


class StopRequestedError(Exception):
    """Signal of a progress callback: the job must end without a result, because the service stops."""


def execute(
    store: Backend, settings: Settings, jobs: JobStore, job: Job, on_progress: OnProgress | None = None
) -> None:
    """Run a job that was started, and store its result or its failure.

    `on_progress` is called like the progress callback of an import. Raises StopRequestedError if the callback does, and
    StorageError if a failure cannot be stored. Changes nothing if the job was started again or deleted meanwhile.
    """
    try:
        report = _run(store, settings, jobs, job, _progress_callback(jobs, job, on_progress))
        jobs.complete(job, report)
        log_event(
            log, logging.INFO, "job.finished", "a job has ended", tenant=job.tenant, job=job.id, state=report.state
        )
    except JobSupersededError:
        log.warning("the result of job %s of tenant %s is dropped: it was restarted or has ended", job.id, job.tenant)
    except StopRequestedError:
        raise
    except _EXPECTED_ERRORS as error:
        _fail(jobs, job, str(error))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        _fail(jobs, job, f"{reason}: the operator must check the folder of the setting data")
    except Exception as error:  # noqa: BLE001 - every job must end
        # Messages of unexpected errors may quote personal data, so only the location is shown.
        _fail(jobs, job, f"unexpected error: {error_location(error)}. Please report it")
    if (stored := jobs.get(job.tenant, job.id)) is not None and not stored.is_active:
        jobs.remove_files(stored)  # the service that started this process may have been killed


def _run(store: Backend, settings: Settings, jobs: JobStore, job: Job, on_progress: OnProgress) -> ImportReport:
    on_result = partial(_finish, jobs, job)
    if job.kind == "approve":
        assert job.run is not None
        return approve_import(
            store,
            settings,
            job.tenant,
            job.run,
            requested_by=job.requested_by,
            on_progress=on_progress,
            on_result=on_result,
        )
    if job.kind == "sync":
        return sync_source(
            store,
            settings,
            job.tenant,
            job.package,
            requested_by=job.requested_by,
            on_progress=on_progress,
            on_result=on_result,
        )
    return run_import(
        store,
        settings,
        jobs.upload_path(job),
        job.tenant,
        job.choices,
        name=job.package,
        requested_by=job.requested_by,
        dry_run=job.kind == "dry_run",
        on_progress=on_progress,
        on_result=on_result,
    )


def _progress_callback(jobs: JobStore, job: Job, on_progress: OnProgress | None) -> OnProgress:
    """Return a callback that writes the progress of the job, and calls `on_progress`."""
    make_private_folder(jobs.tenant_folder(job.tenant))
    write = ProgressWriter(jobs.progress_file(job))

    def report(phase: str, row_count: int, expected_count: int | None) -> None:
        write(phase, row_count, expected_count)
        if on_progress:
            on_progress(phase, row_count, expected_count)

    return report


def _finish(jobs: JobStore, job: Job, report: ImportReport, state: RunState, transaction: Transaction) -> None:
    jobs.finish_in(transaction, job, report, state)


def _fail(jobs: JobStore, job: Job, message: str) -> None:
    """Store a failure. Raises StorageError."""
    log_event(log, logging.ERROR, "job.failed", "a job has failed", tenant=job.tenant, job=job.id, reason=message)
    with contextlib.suppress(JobSupersededError):
        jobs.fail(job, message)
