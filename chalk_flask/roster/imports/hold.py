"""Hold of a package that exceeds a change threshold: its copy is synced to disk before the run is stored as held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backends import StorageError
from chalk_flask.files import atomic_write
from chalk_flask.roster.changes.version import RosterVersion, only_tools_wrote, roster_version
from chalk_flask.roster.diff.change_list import write_change_list
from chalk_flask.roster.diff.diff import RosterDiff
from chalk_flask.roster.imports import history, run_files
from chalk_flask.roster.imports.parameters import ImportJob, RosterChangedError, no_callback
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.checksum import PackageChecksum, checksum_of_packed_folder, package_checksum
from chalk_flask.roster.package.problems import ImportProblem, PackageRejectedError
from chalk_flask.storage import RosterStore
from chalk_flask.times import format_timestamp, utc_now

__all__ = [
    "CHANGING",
    "HoldRequiredError",
    "add_hold_failure",
    "hold",
    "job_with_copy",
    "remove_expired",
    "store_change_list",
    "store_rejected",
]


CHANGING = ImportProblem(
    "changing", "the package changed while it was read", "Import it again once it is written completely."
)


class HoldRequiredError(Exception):
    """Signal that the package with this checksum must be copied before it can be held. The caller imports the copy."""

    def __init__(self, checksum: PackageChecksum) -> None:
        super().__init__(checksum)
        self.checksum = checksum


@contextlib.contextmanager
def job_with_copy(job: ImportJob, checksum: PackageChecksum) -> Iterator[ImportJob]:
    """Copy the package with this checksum, and yield the job with the copy as `path`.

    No other process can change the copy, and no other package of the tenant can be held until the end of the block.
    Raises OSError, and PackageRejectedError if the package was changed or replaced after its checksum was computed.
    """
    folder = job.options.folder
    if folder is None:
        raise FileNotFoundError(None, "there is no folder for held packages")
    tenant_folder, max_bytes = run_files.folder_for(folder, job.tenant), job.options.limits.size
    with (
        run_files.folder_lock(tenant_folder),
        run_files.copy_package(job.path, tenant_folder, job.run, job.subfolder, max_bytes) as copy,
    ):
        if _sha256_of_copy(copy, checksum, max_bytes) != checksum.sha256:
            raise PackageRejectedError(CHANGING)
        package_sha256 = checksum.sha256 if checksum.is_of_folder else None
        yield replace(job, path=copy, subfolder="", is_copy=True, package_sha256=package_sha256)


def _sha256_of_copy(copy: Path, original: PackageChecksum, max_bytes: int) -> str | None:
    """Return the SHA-256 that the original has if its copy is complete and unchanged."""
    if original.is_of_folder:
        return checksum_of_packed_folder(copy)
    checksum = package_checksum(copy, max_bytes)
    return checksum.sha256 if checksum else None


def store_change_list(job: ImportJob, diff: RosterDiff) -> None:
    """Write the change list beside the copied package. If that fails, the package is held without it.

    Call it while the snapshot of the diff is open. `remove_expired` deletes a list whose run was not stored.
    """
    path = job.path.with_name(f"{job.run}.changes")
    part = path.with_name(f".{path.name}.part")
    with contextlib.suppress(OSError), atomic_write(path, part, for_store=True) as file:
        write_change_list(file, diff.changes)


def hold(job: ImportJob, report: ImportReport, checksum: PackageChecksum, version: RosterVersion) -> None:
    """Store the run of the copied package as held, unless the same package is held already.

    Raises RosterChangedError, PackageRejectedError and StorageError. `remove_expired` deletes a copy whose run
    was not stored.
    """
    now, options = utc_now(), job.options.to_dict()
    with job.store.write(job.tenant) as transaction:
        if not only_tools_wrote(version, roster_version(transaction)):
            raise RosterChangedError
        same = history.find_same_package(transaction, ["held"], report.sha256 or "", options)
        if same and same.current_state(now, transaction) == "held" and _path_of_copy(job, same.id).is_file():
            report.earlier = report.run = same.id
            report.expires = same.report["expires"]
        else:
            report.expires = format_timestamp(now + history.HOLD_PERIOD)
            _place_copy(job, report)
            run = job.to_run("held", report, version.revision)
            run = replace(run, held_sha256=checksum.sha256, roster_version=tuple(version))
            history.store_run(transaction, run, now)
            (job.on_hold or no_callback)(report, transaction)
        job.report_result(report, "held", transaction)
    report.state = "held"


def _path_of_copy(job: ImportJob, run_id: str) -> Path:
    return job.path.with_name(f"{run_id}.zip")


def _place_copy(job: ImportJob, report: ImportReport) -> None:
    try:
        run_files.move_into_place(job.path, _path_of_copy(job, job.run))
    except OSError as error:
        add_hold_failure(report, error)
        raise PackageRejectedError from error


def add_hold_failure(report: ImportReport, error: OSError) -> None:
    """Add to the report that the package must be held, and why it cannot be."""
    message = f"the package exceeds a change threshold, but cannot be held: {_reason(error)}"
    hint = "The operator must check the folder of the setting `data`. Then import the package again."
    report.problems.add(ImportProblem("cannot_hold", message, hint))
    thresholds = "; ".join(threshold.to_text() for threshold in report.exceeded)
    hint = "Check whether these changes are intended."
    report.problems.add(ImportProblem("brake", f"it exceeds {thresholds}", hint, is_warning=True))
    report.expires = None


def store_rejected(job: ImportJob, report: ImportReport) -> None:
    """Store a rejected run. If that fails, add a warning to the report."""
    if report.state == "refused" and job.options.folder is not None:
        max_bytes = job.options.limits.size
        if report.sha256 is None and (checksum := package_checksum(job.path, max_bytes, job.subfolder)):
            report.sha256 = checksum.sha256
        try:
            history.store_rejected_run(job.options.folder, job.to_run("refused", report))
        except OSError as error:
            message = f"the report of this import cannot be stored: {_reason(error)}"
            hint = "The operator must check the folder of the setting `data`."
            report.problems.add(ImportProblem("not_recorded", message, hint, is_warning=True))


def remove_expired(store: RosterStore, folder: Path | None, now: datetime | None = None) -> None:
    """Delete packages that can no longer be approved, old reports, and the files of crashed imports.

    Never fails: the next call tries again.
    """
    time = now or utc_now()

    def runs_to_keep(tenant: str) -> set[str]:
        with store.read(tenant) as snapshot:
            return history.runs_to_keep(snapshot, time)

    if folder is not None:
        with contextlib.suppress(StorageError):
            run_files.remove_unused(folder, runs_to_keep, (time - history.RETENTION).timestamp())


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
