"""What becomes of a held package: somebody approves it, and exactly those bytes are imported, or discards it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from backends import Transaction
from chalk_flask.roster.imports import held_files, history, hold
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.importer import run_once
from chalk_flask.roster.imports.job import AlreadyDecided, ImportJob, OnCommit, Progress, RosterChanged, throttled
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.checksum import package_checksum
from chalk_flask.storage import RosterStore

__all__ = ["ApprovalError", "approve", "discard"]

AGAIN = "discard it and import the package again"


class ApprovalError(Exception):
    """A run cannot be approved or discarded; the message says why and what to do. Nothing was changed."""


def approve(
    store: RosterStore,
    tenant: str,
    run: str,
    options: ImportOptions,
    *,
    requested_by: str = "",
    progress: Progress | None = None,
    on_commit: OnCommit | None = None,
    now: datetime | None = None,
) -> ImportReport:
    """Import the package of a held run without the brake, and otherwise with the options it was held with.

    Only as long as the roster is the one with which it was compared, only within the time and only once, whoever else
    approves it at the same moment: the run ceases to be held in the transaction that writes the roster, in which
    `also` is called. Of `options` the folder counts. Raises ApprovalError, StorageError and OSError.
    """
    begun = time.monotonic()
    folder = _folder(options)
    found = _approvable(store, tenant, run, now or datetime.now(UTC), options)
    kept = options.as_held(found.options)
    path = held_files.held_package_path(folder, tenant, run)
    _check_bytes(found, path, kept.limits.size)
    name, told = str(found.report["package"]), progress and throttled(progress)
    job = ImportJob(
        store,
        tenant,
        run,
        name,
        path,
        kept,
        requested_by,
        progress=told,
        on_commit=on_commit,
        package=found.sha256,
        approved=found,
    )
    report = job.report()
    try:
        run_once(job, report)
    except RosterChanged as error:
        raise ApprovalError(_overtaken(run)) from error
    except AlreadyDecided as error:
        raise ApprovalError(f"{run} was approved, discarded or replaced a moment ago") from error
    report.seconds = time.monotonic() - begun
    if report.state == "refused":  # mostly since whoever settled it meanwhile has removed the package
        _still_held(store, tenant, run)
    else:
        _remove(path)
    hold.remove_expired(store, folder)
    return report


def discard(
    store: RosterStore,
    tenant: str,
    run: str,
    options: ImportOptions,
    *,
    requested_by: str = "",
    on_commit: Callable[[ImportRun, Transaction], None] | None = None,
) -> ImportRun:
    """Drop the package of a held run, also of one that has expired or that the roster has overtaken.

    `noted` is called in the transaction. Raises ApprovalError, StorageError and OSError.
    """
    folder, now = _folder(options), datetime.now(UTC)
    _still_held(store, tenant, run)
    with store.write(tenant) as transaction:
        ended = _stored(history.find_run(transaction, run), run).ended("discarded", requested_by, now)
        history.store_run(transaction, ended, now)
        if on_commit:
            on_commit(ended, transaction)
    _remove(held_files.held_package_path(folder, tenant, run))
    hold.remove_expired(store, folder)
    return ended


def _folder(options: ImportOptions) -> Path:
    if options.folder is None:
        raise ApprovalError("no folder is named where packages are held")
    return options.folder


def _approvable(store: RosterStore, tenant: str, run: str, now: datetime, options: ImportOptions) -> ImportRun:
    with store.read(tenant) as snapshot:
        found = _stored(history.find_run(snapshot, run), run)
        state = found.state_at(now, snapshot.revision)
    if state == "expired":
        raise ApprovalError(f"{run} was held until {found.report['expires']}: {AGAIN}")
    if state == "overtaken":
        raise ApprovalError(_overtaken(run))
    if found.options["version"] != options.to_dict()["version"]:
        raise ApprovalError(f"{run} was held by another version of this program, which may read it otherwise: {AGAIN}")
    return found


def _still_held(store: RosterStore, tenant: str, run: str) -> None:
    with store.read(tenant) as snapshot:
        _stored(history.find_run(snapshot, run), run)


def _stored(found: ImportRun | None, run: str) -> ImportRun:
    """The run, if it is stored as held."""
    if found is None:
        raise ApprovalError(f"no import {run[:80]!r} is held: `chalk-flask imports list` shows those there are")
    if found.state != "held":
        raise ApprovalError(f"{run} is not held: it is {found.state}")
    return found


def _check_bytes(found: ImportRun, path: Path, most: int) -> None:
    seen = package_checksum(path, most)
    if seen is None:
        raise ApprovalError(f"the package of {found.id} is gone or cannot be read: {AGAIN}")
    if seen.sha256 != found.held_sha256:
        raise ApprovalError(f"the package of {found.id} is not the one that was held: its bytes differ; {AGAIN}")


def _overtaken(run: str) -> str:
    return f"the roster has changed since {run} was compared with it: {AGAIN}"


def _remove(path: Path) -> None:
    """Remove a held package; should that fail, `tidy` does it another time."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
