"""Holding a package: its bytes are on the disk for good before it is known as held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from backends import StorageError
from chalk_flask.roster.imports import held_files, history
from chalk_flask.roster.imports.job import ImportJob, RosterChanged, no_callback
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.checksum import PackageChecksum, of_packed, package_checksum
from chalk_flask.roster.package.problems import PackageRejected
from chalk_flask.storage import RosterStore

__all__ = ["HoldRequired", "hold", "job_on_copy", "reject_unholdable", "remove_expired"]


class HoldRequired(Exception):
    """The brake has tripped, and the package is to be copied before anything else is done."""


@contextlib.contextmanager
def job_on_copy(job: ImportJob) -> Iterator[ImportJob]:
    """The job on a copy of the package, which is what is compared and then held. Raises OSError.

    From here on nobody else can change what is read. Nothing else is held for the tenant meanwhile.
    """
    folder = job.options.folder
    if folder is None:
        raise FileNotFoundError(None, "no folder is named where it could be kept")
    own = held_files.folder_for(folder, job.tenant)
    with held_files.folder_lock(own), held_files.copy_package(job.path, own, job.run) as copy:
        yield replace(job, path=copy, is_copy=True, package=of_packed(copy) if job.path.is_dir() else None)


def hold(job: ImportJob, report: ImportReport, seen: PackageChecksum, revision: int) -> None:
    """Store that the copied package is held, unless it is held already. Raises Moved, Refused and StorageError.

    What is left of a copy when this fails is removed by the next `tidy`, which knows whether the record was stored.
    """
    now, kept = datetime.now(UTC), job.options.to_dict()
    with job.store.write(job.tenant) as transaction:
        if transaction.revision != revision:
            raise RosterChanged
        already = history.find_same_package(transaction, ["held"], report.sha256 or "", kept)
        if already and already.state_at(now, revision) == "held" and job.path.with_name(f"{already.id}.zip").is_file():
            report.earlier = report.run = already.id
            report.expires = already.report["expires"]
        else:
            report.expires = history.written(now + history.HOLD_PERIOD)
            _place(job, report)
            history.store_run(transaction, replace(job.as_run("held", report, revision), held_sha256=seen.sha256), now)
            (job.on_hold or no_callback)(report, transaction)
    report.state = "held"


def _place(job: ImportJob, report: ImportReport) -> None:
    try:
        held_files.move_into_place(job.path, job.path.with_name(f"{job.run}.zip"))
    except OSError as error:
        reject_unholdable(report, error)
        raise PackageRejected from error


def reject_unholdable(report: ImportReport, error: OSError) -> None:
    """Say in the report that the package would have to be held, and why it cannot."""
    reason = error.strerror or type(error).__name__
    reasons = "; ".join(trip.to_text() for trip in report.exceeded)
    remedy = "See to the folder `data` and import the package again."
    report.problems.error("cannot_hold", f"the package has to be held, which is not possible: {reason}", remedy)
    report.problems.warn("brake", f"it has to be held because of {reasons}", "Look whether that is meant.")
    report.expires = None


def store_rejected(job: ImportJob, report: ImportReport) -> None:
    """Write down a run that was refused; if that cannot be done, the report says so."""
    if report.state == "refused" and job.options.folder is not None:
        if report.sha256 is None and (seen := package_checksum(job.path, job.options.limits.size)):
            report.sha256 = seen.sha256
        try:
            history.store_rejected_run(job.options.folder, job.as_run("refused", report))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            remedy = "See to the folder `data`."
            report.problems.warn("not_recorded", f"that it was refused cannot be written down: {reason}", remedy)


def remove_expired(store: RosterStore, folder: Path | None, now: datetime | None = None) -> None:
    """Remove packages that are held no longer or cannot be approved any more, and what crashes left.

    Never fails: what cannot be removed now is removed another time.
    """
    moment = now or datetime.now(UTC)

    def wanted(tenant: str) -> set[str]:
        with store.read(tenant) as snapshot:
            return history.runs_to_keep(snapshot, moment)

    if folder is not None:
        with contextlib.suppress(StorageError):
            held_files.remove_unused(folder, wanted, (moment - history.RETENTION).timestamp())
