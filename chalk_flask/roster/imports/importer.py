"""Import of a OneRoster CSV package.

The steps, from the top down: `import_package` creates the job and records a rejection. `_run_until_current` repeats
the run if another writer makes a change that conflicts, or if the package must be copied because it will be held.
`run_once` reads the package, compares it with the stored roster, and then holds it, or applies it with `commit`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from backends import Snapshot, open_store
from chalk_flask.files import path_without_link
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.outbox.subscription import load_subscriptions
from chalk_flask.roster.changes.version import RosterVersion, roster_version
from chalk_flask.roster.diff.diff import RosterDiff, old_tombstone_queries
from chalk_flask.roster.diff.first_load import FirstLoad, has_large_file
from chalk_flask.roster.imports import commit, history, hold
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.parameters import (
    AlreadyDecidedError,
    ImportJob,
    ImportParameters,
    RosterChangedError,
    interpreter_settings_for_import,
)
from chalk_flask.roster.imports.report import FileReport, ImportReport
from chalk_flask.roster.imports.threshold_check import find_exceeded
from chalk_flask.roster.package.archive import Package, open_package
from chalk_flask.roster.package.checksum import PackageChecksum, package_checksum
from chalk_flask.roster.package.layout import find_subfolder
from chalk_flask.roster.package.manifest_check import declared_modes
from chalk_flask.roster.package.problems import (
    ImportProblem,
    ImportProblems,
    PackageRejectedError,
    escape_undecodable,
)
from chalk_flask.roster.package.quarantine import Quarantine, RowsExcludedError, write_csv
from chalk_flask.storage import COLLECTIONS, LockedStore, RosterStore

__all__ = ["import_package", "run_locked", "run_once"]

MAX_CONFLICTS = 2
"""Number of conflicts with other writers after which an import takes the write lock before it reads."""


def import_package(
    store: RosterStore, tenant: str, path: Path, options: ImportOptions, **parameters: Unpack[ImportParameters]
) -> ImportReport:
    """Import a package into the roster of a tenant, and return the report.

    A package is rejected if it has an error, held if it exceeds a change threshold, or else applied in full in one
    transaction. The import reads and compares without the write lock. If another writer makes a change that conflicts,
    it repeats this once, and then once more under the write lock (interpretation I-32). Raises StorageError,
    ParserProcessError, and OSError if the file for quarantined rows cannot be written.
    """
    start = time.monotonic()
    job = _new_job(store, tenant, path, options, parameters)
    report = _run_until_current(job)
    report.seconds = time.monotonic() - start
    if not job.dry_run:
        hold.store_rejected(job, report)
        hold.remove_expired(store, options.folder)
    return report


def _new_job(
    store: RosterStore, tenant: str, path: Path, options: ImportOptions, parameters: ImportParameters
) -> ImportJob:
    root = path_without_link(path)
    subfolder = find_subfolder(root)
    parameters.setdefault("name", path.name or path.resolve().name)
    parameters.setdefault("run", f"run-{uuid.uuid4()}")
    return ImportJob(
        store,
        tenant,
        path=root,
        options=options,
        warnings=(_subfolder_warning(subfolder),) if subfolder else (),
        subfolder=subfolder,
        **parameters,
    )


def _subfolder_warning(name: str) -> ImportProblem:
    message = f"all OneRoster files are in the folder {escape_undecodable(name)!r}"
    return ImportProblem("top_folder", message, "They were read. Give the path of that folder.", is_warning=True)


def _run_until_current(job: ImportJob) -> ImportReport:
    conflicts = 0
    with contextlib.ExitStack() as stack:
        while True:
            report = job.new_report()
            try:
                (run_once if conflicts < MAX_CONFLICTS else run_locked)(job, report)
            except RosterChangedError:
                conflicts += 1
            except hold.HoldRequiredError as required:
                try:
                    job = stack.enter_context(hold.job_with_copy(job, required.checksum))
                except OSError as error:
                    hold.add_hold_failure(report, error)
                    return report
                except PackageRejectedError as rejection:
                    report.problems.extend(rejection.problems)
                    return report
            else:
                return report


def run_locked(job: ImportJob, report: ImportReport) -> None:
    """Do the same as `run_once` under the write lock, so that no other writer can change the roster.

    Raises HoldRequiredError and AlreadyDecidedError. Raises RosterChangedError if an approved run no longer belongs to
    the present roster.
    """
    with LockedStore(job.store, job.tenant) as store:
        run_once(replace(job, store=store), report)


def run_once(job: ImportJob, report: ImportReport) -> None:
    """Read, compare and apply the package once, and fill in the report.

    Raises RosterChangedError if another writer changed the roster, and HoldRequiredError if the package must be copied
    first. Raises AlreadyDecidedError if the held run was approved or discarded in the meantime.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack, _collect_rejection(report.problems):
        stack.enter_context(interpreter_settings_for_import(job.options.limits.field))
        # Before the package is opened: `_check_unchanged` then finds out if it is replaced while it is opened.
        found = package_checksum(job.path, job.options.limits.size, job.subfolder)
        package = stack.enter_context(
            open_package(job.path, job.options.limits, report.problems, job.subfolder, report.package)
        )
        checksum = _accepted_checksum(job, report, found)
        with job.store.read(job.tenant) as stored:
            version = roster_version(stored)
            _check_approved_roster(job, stored)
            diff, first_load = None, None
            if not _copy_earlier_result(job, stored, report):
                package.modes = declared_modes(package, report.problems, lenient=job.options.reading.lenient)
                if _is_large_first_load(job, package, stored):
                    first_load = stack.enter_context(commit.prepare_first_load(job, report, version))
                else:
                    diff = stack.enter_context(_compare(package, stored, report, job))
                    if job.is_copy and report.exceeded:
                        hold.store_change_list(job, diff)
        if first_load:
            diff = stack.enter_context(_compare_with_empty_roster(package, report, job, first_load))
        _check_unchanged(job, report.problems, checksum)
        report.seconds = time.monotonic() - start
        _finish(job, report, diff, version, checksum)


@contextlib.contextmanager
def _collect_rejection(problems: ImportProblems) -> Iterator[None]:
    try:
        yield
    except PackageRejectedError as rejection:
        problems.extend(rejection.problems)


def _accepted_checksum(job: ImportJob, report: ImportReport, checksum: PackageChecksum | None) -> PackageChecksum:
    if checksum is None:
        max_mib = job.options.limits.size >> 20
        message = f"the package cannot be read to its end, or is larger than {max_mib} MiB"
        raise PackageRejectedError(
            ImportProblem("too_large", message, "Raise import_max_mb if the package is genuine.")
        )
    report.sha256 = job.package_sha256 or checksum.sha256
    if job.approved and job.approved.held_sha256 != checksum.sha256:
        raise AlreadyDecidedError
    return checksum


def _check_approved_roster(job: ImportJob, stored: Snapshot) -> None:
    if job.approved and not job.approved.belongs_to(stored):
        raise RosterChangedError


def _check_unchanged(job: ImportJob, problems: ImportProblems, checksum: PackageChecksum) -> None:
    """Raise PackageRejectedError if there are errors, or if the package changed since it was read."""
    if not problems.total and package_checksum(job.path, job.options.limits.size, job.subfolder) != checksum:
        problems.add(hold.CHANGING)
    problems.raise_if_errors()


def _copy_earlier_result(job: ImportJob, stored: Snapshot, report: ImportReport) -> bool:
    """Return True if importing this package again would change nothing; then copy the earlier result to the report.

    This is the case if the same package led to the present roster, and no tombstone has become old enough to purge.
    """
    if job.dry_run or job.approved or job.is_copy or job.csv_file or report.sha256 is None:
        return False
    run = history.find_same_package(stored, ["committed", "unchanged"], report.sha256, job.options.to_dict())
    if run is None or any(
        stored.exists(query.collection, query.where) for query in old_tombstone_queries(job.options.tombstone_days)
    ):
        return False
    earlier = ImportReport.from_dict(run.report)
    report.files = {
        name: FileReport(file.rows, {"unchanged": file.rows}, file.mode)
        for name, file in earlier.files.items()
        if file.mode
    }
    report.problems.warnings = earlier.problems.warnings
    report.quarantined, report.quarantined_rows = earlier.quarantined, earlier.quarantined_rows
    report.earlier = earlier.earlier or run.id
    return True


def _is_large_first_load(job: ImportJob, package: Package, stored: Snapshot) -> bool:
    """Return True if the import is the first of a store, and can write very large files while it reads them.

    Such an import has the write lock for longer, so no tenant may have a roster yet.
    """
    if stored.revision or job.dry_run or job.is_copy or job.approved or job.options.invalid_rows == "quarantine":
        return False
    return (
        has_large_file(package)
        and not isinstance(job.store, LockedStore)
        and not load_subscriptions(stored)
        and not any(map(stored.exists, FILES))
        and not commit.has_roster(job.store)
    )


@contextlib.contextmanager
def _compare_with_empty_roster(
    package: Package, report: ImportReport, job: ImportJob, first_load: FirstLoad
) -> Iterator[RosterDiff]:
    """Yield the diff as `_compare` does, for a tenant without a roster. No snapshot of the store stays open."""
    with (
        open_store("memory:", COLLECTIONS) as empty,
        empty.read(job.tenant) as stored,
        _compare(package, stored, report, job, first_load) as diff,
    ):
        yield diff


@contextlib.contextmanager
def _compare(
    package: Package, stored: Snapshot, report: ImportReport, job: ImportJob, first_load: FirstLoad | None = None
) -> Iterator[RosterDiff]:
    """Yield the diff of the package and the stored roster; fill in the counts and exceeded thresholds of the report."""
    with contextlib.ExitStack() as stack:
        quarantine = None
        if job.options.invalid_rows == "quarantine":
            quarantine = stack.enter_context(contextlib.closing(Quarantine()))
        diff = stack.enter_context(
            contextlib.closing(_create_diff(package, stored, report.problems, job, quarantine, first_load))
        )
        report.files = {
            name: FileReport(
                diff.reader.row_counts.get(name, 0), dict(diff.changes[name].counts), package.modes.get(name)
            )
            for name in FILES
            if name in diff.reader.row_counts or diff.changes[name].changed_count
        }
        report.purged = sum(map(len, diff.purged.values()))
        if quarantine:
            report.quarantined, report.quarantined_rows = dict(quarantine.counts), quarantine.listed
        if not report.problems.total:
            report.exceeded = list(find_exceeded(stored, diff, report, job.options.thresholds))
            if job.csv_file:
                (quarantine.write_csv if quarantine else partial(write_csv, problems=()))(job.csv_file)
        yield diff


def _create_diff(
    package: Package,
    stored: Snapshot,
    problems: ImportProblems,
    job: ImportJob,
    quarantine: Quarantine | None,
    first_load: FirstLoad | None,
) -> RosterDiff:
    """Return the finished diff. Compare again if rows turn out to be invalid after they were compared."""
    options, earlier_problems = job.options, problems.copy()
    while True:
        diff = RosterDiff(
            package, stored, problems, options.reading, job.on_progress, quarantine, options.strict, first_load
        )
        with contextlib.ExitStack() as stack:
            stack.callback(diff.close)
            try:
                diff.compare(options.tombstone_days)
            except RowsExcludedError:
                assert quarantine is not None
                quarantine.start_again()
                problems.reset(earlier_problems)
            else:
                stack.pop_all()
                return diff


def _finish(
    job: ImportJob, report: ImportReport, diff: RosterDiff | None, version: RosterVersion, checksum: PackageChecksum
) -> None:
    """Set the state of the report: only checked, held, unchanged, or committed."""
    if report.dry_run:
        report.state = "checked"
    elif report.exceeded and job.is_copy:
        hold.hold(job, report, checksum, version)
    elif report.exceeded:
        raise hold.HoldRequiredError(checksum)
    elif diff is None or (not diff.changed_count and not report.purged):
        commit.store_unchanged(job, report, diff, version)
    else:
        commit.store_changes(job, report, diff, version)
