"""Decision about held packages: `approve` imports exactly the held bytes, `discard` deletes them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from backends import Transaction
from chalk_flask.roster.imports import history, hold, run_files
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.importer import run_locked, run_once
from chalk_flask.roster.imports.job import (
    AlreadyDecidedError,
    ImportJob,
    OnCommit,
    Progress,
    RosterChangedError,
    throttled,
)
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.checksum import package_checksum
from chalk_flask.storage import RosterStore
from chalk_flask.times import utc_now

__all__ = ["ApprovalError", "approve", "discard"]

IMPORT_AGAIN_HINT = "discard it and import the package again"


class ApprovalError(Exception):
    """Error for a run that cannot be approved or discarded. The message contains the reason and the remedy."""


def approve(
    store: RosterStore,
    tenant: str,
    run_id: str,
    options: ImportOptions,
    *,
    requested_by: str = "",
    progress: Progress | None = None,
    on_commit: OnCommit | None = None,
    now: datetime | None = None,
) -> ImportReport:
    """Import the package of a held run with the options of the hold, but without thresholds.

    Only `options.folder` is used. The roster must be the one with which the package was compared, apart from writes of
    grade tools, and the run must not have expired. The transaction that writes the roster also ends the hold and calls
    `on_commit`, so that concurrent approvals apply the package once. Raises ApprovalError, StorageError and OSError.
    """
    start = time.monotonic()
    folder = _folder(options)
    run = _approvable_run(store, tenant, run_id, now or utc_now(), options)
    held_options = options.as_held(run.options)
    path = run_files.held_package_path(folder, tenant, run_id)
    _check_bytes(run, path, held_options.limits.size)
    job = ImportJob(
        store,
        tenant,
        run_id,
        name=str(run.report["package"]),
        path=path,
        options=held_options,
        requested_by=requested_by,
        progress=progress and throttled(progress),
        on_commit=on_commit,
        package_sha256=run.sha256,
        approved=run,
    )
    try:
        report = _run(job)
    except RosterChangedError as error:
        raise ApprovalError(_roster_changed_message(run_id)) from error
    except AlreadyDecidedError as error:
        raise ApprovalError(f"{run_id} was approved, discarded or replaced in the meantime") from error
    report.seconds = time.monotonic() - start
    if report.state == "refused":  # most likely another approval has removed the package
        _check_held(store, tenant, run_id)
    else:
        _remove(path)
    hold.remove_expired(store, folder)
    return report


def discard(
    store: RosterStore,
    tenant: str,
    run_id: str,
    options: ImportOptions,
    *,
    requested_by: str = "",
    on_commit: Callable[[ImportRun, Transaction], None] | None = None,
) -> ImportRun:
    """Delete the package of a held run without applying it, also if the run has expired. Return the discarded run.

    `on_commit` is called in the transaction. Raises ApprovalError, StorageError and OSError.
    """
    folder, now = _folder(options), utc_now()
    _check_held(store, tenant, run_id)
    with store.write(tenant) as transaction:
        run = _require_held(history.find_run(transaction, run_id), run_id).with_decision("discarded", requested_by, now)
        history.store_run(transaction, run, now)
        if on_commit:
            on_commit(run, transaction)
    _remove(run_files.held_package_path(folder, tenant, run_id))
    hold.remove_expired(store, folder)
    return run


def _run(job: ImportJob) -> ImportReport:
    """Run the job, under the write lock if a grade tool makes a change that conflicts. Return the report."""
    report = job.new_report()
    try:
        run_once(job, report)
    except RosterChangedError:
        report = job.new_report()
        run_locked(job, report)
    return report


def _folder(options: ImportOptions) -> Path:
    if options.folder is None:
        raise ApprovalError("there is no folder for held packages")
    return options.folder


def _approvable_run(store: RosterStore, tenant: str, run_id: str, now: datetime, options: ImportOptions) -> ImportRun:
    with store.read(tenant) as snapshot:
        run = _require_held(history.find_run(snapshot, run_id), run_id)
        state = run.current_state(now, snapshot)
    if state == "expired":
        raise ApprovalError(f"{run_id} expired at {run.report['expires']}: {IMPORT_AGAIN_HINT}")
    if state == "overtaken":
        raise ApprovalError(_roster_changed_message(run_id))
    if run.options["version"] != options.to_dict()["version"]:
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
        raise ApprovalError(f"the package of {run.id} is missing or cannot be read: {IMPORT_AGAIN_HINT}")
    if checksum.sha256 != run.held_sha256:
        raise ApprovalError(f"the package of {run.id} was modified after it was held: {IMPORT_AGAIN_HINT}")


def _roster_changed_message(run_id: str) -> str:
    return f"the roster has changed since {run_id} was compared with it: {IMPORT_AGAIN_HINT}"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # `remove_expired` tries again
        path.unlink(missing_ok=True)
