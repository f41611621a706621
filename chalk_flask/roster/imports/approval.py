"""Decision about held packages: `approve` imports exactly the held bytes, `discard` deletes them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import chalk_flask
from backends import Transaction
from chalk_flask.roster.imports import history, hold, run_files
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.importer import run_locked, run_once
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.parameters import (
    AlreadyDecidedError,
    ImportJob,
    OnCommit,
    OnProgress,
    OnResult,
    RosterChangedError,
)
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.checksum import package_checksum
from chalk_flask.storage import RosterStore
from chalk_flask.times import utc_now

__all__ = ["ApprovalError", "MissingPackageError", "approve", "discard"]

IMPORT_AGAIN_HINT = "discard it and import the package again"


class ApprovalError(Exception):
    """Error for a run that cannot be approved or discarded. The message contains the reason and the remedy."""


class MissingPackageError(ApprovalError):
    """Error for a held package that is not at `path`. The message does not contain the path."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def approve(
    store: RosterStore,
    tenant: str,
    run_id: str,
    folder: Path,
    *,
    requested_by: str = "",
    on_progress: OnProgress | None = None,
    on_commit: OnCommit | None = None,
    on_result: OnResult | None = None,
    keeps_history: bool = True,
    now: datetime | None = None,
) -> ImportReport:
    """Import the package of a held run with the options of the hold, but without thresholds.

    `folder` is the folder of held packages. The roster must be the one with which the package was compared, apart from
    writes of grade tools, and the run must not have expired. The transaction that writes the roster also ends the hold
    and calls `on_commit`, so that concurrent approvals apply the package once. `on_result` is called there too, and in
    the one that stores that nothing has changed. `keeps_history` is False if the tenant keeps no change history. Raises
    ApprovalError, StorageError and OSError.
    """
    start = time.monotonic()
    run = _approvable_run(store, tenant, run_id, now or utc_now())
    job = _held_job(run, store, folder)
    job = replace(
        job,
        requested_by=requested_by,
        on_progress=on_progress,
        on_commit=on_commit,
        on_result=on_result,
        keeps_history=keeps_history,
    )
    report = _apply(job)
    report.seconds = time.monotonic() - start
    if report.state == "refused":  # most likely another approval has removed the package
        _check_held(store, tenant, run_id)
    else:
        _remove(job.path)
    hold.remove_expired(store, folder)
    return report


def discard(
    store: RosterStore,
    tenant: str,
    run_id: str,
    folder: Path,
    *,
    requested_by: str = "",
    on_commit: Callable[[ImportRun, Transaction], None] | None = None,
) -> ImportRun:
    """Delete the package of a held run without applying it, also if the run has expired. Return the discarded run.

    `folder` is the folder of held packages. `on_commit` is called in the transaction. Raises ApprovalError,
    StorageError and OSError.
    """
    now = utc_now()
    _check_held(store, tenant, run_id)
    with store.write(tenant) as transaction:
        run = _require_held(history.find_run(transaction, run_id), run_id).with_decision("discarded", requested_by, now)
        history.store_run(transaction, run, now)
        if on_commit:
            on_commit(run, transaction)
    _remove(run_files.held_package_path(folder, tenant, run_id))
    hold.remove_expired(store, folder)
    return run


def _held_job(run: ImportRun, store: RosterStore, folder: Path) -> ImportJob:
    """Return the job that imports the package of a held run. Raises ApprovalError if the package has changed."""
    options = ImportOptions.from_dict(run.options, folder)
    path = run_files.held_package_path(folder, run.tenant, run.id)
    _check_bytes(run, path, options.limits.size)
    return ImportJob(
        store,
        run.tenant,
        run.id,
        name=str(run.report["package"]),
        path=path,
        options=options,
        package_sha256=run.sha256,
        approved=run,
        notes=run.report.get("notes", ()),
    )


def _apply(job: ImportJob) -> ImportReport:
    try:
        return _run(job)
    except RosterChangedError as error:
        raise ApprovalError(_roster_changed_message(job.run)) from error
    except AlreadyDecidedError as error:
        raise ApprovalError(f"{job.run} was approved, discarded or replaced in the meantime") from error


def _run(job: ImportJob) -> ImportReport:
    """Run the job, under the write lock if a grade tool makes a change that conflicts. Return the report."""
    report = job.new_report()
    try:
        run_once(job, report)
    except RosterChangedError:
        report = job.new_report()
        run_locked(job, report)
    return report


def _approvable_run(store: RosterStore, tenant: str, run_id: str, now: datetime) -> ImportRun:
    with store.read(tenant) as snapshot:
        run = _require_held(history.find_run(snapshot, run_id), run_id)
        state = run.current_state(now, snapshot)
    if state == "expired":
        raise ApprovalError(f"{run_id} expired at {run.report['expires']}: {IMPORT_AGAIN_HINT}")
    if state == "overtaken":
        raise ApprovalError(_roster_changed_message(run_id))
    if run.options["version"] != chalk_flask.__version__:
        raise ApprovalError(f"another version of this program held {run_id}: {IMPORT_AGAIN_HINT}")
    return run


def _check_held(store: RosterStore, tenant: str, run_id: str) -> None:
    with store.read(tenant) as snapshot:
        _require_held(history.find_run(snapshot, run_id), run_id)


def _require_held(run: ImportRun | None, run_id: str) -> ImportRun:
    if run is None:
        raise ApprovalError(f"there is no held import {run_id[:80]!r}: `chalk-flask imports list` lists all imports")
    if run.state != "held":
        raise ApprovalError(f"{run_id} is not held: it is {run.state}")
    return run


def _check_bytes(run: ImportRun, path: Path, max_bytes: int) -> None:
    checksum = package_checksum(path, max_bytes)
    if checksum is None:
        raise MissingPackageError(f"the package of {run.id} is missing or cannot be read: {IMPORT_AGAIN_HINT}", path)
    if checksum.sha256 != run.held_sha256:
        raise ApprovalError(f"the package of {run.id} was modified after it was held: {IMPORT_AGAIN_HINT}")


def _roster_changed_message(run_id: str) -> str:
    return f"the roster has changed since {run_id} was compared with it: {IMPORT_AGAIN_HINT}"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # `remove_expired` tries again
        path.unlink(missing_ok=True)
