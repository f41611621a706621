"""Import of a OneRoster CSV package: refused, held, or committed in one transaction."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from backends import And, Compare, Query, Snapshot, StorageError, Transaction
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.outbox import Outbox
from chalk_flask.roster.changes import clock, provenance
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.changes.writer import write_with_final_timestamp
from chalk_flask.roster.diff.diff import RosterDiff, old_tombstone_counts
from chalk_flask.roster.imports import history, hold
from chalk_flask.roster.imports.job import (
    AlreadyDecided,
    ImportJob,
    OnCommit,
    Progress,
    RosterChanged,
    low_memory_mode,
    no_callback,
    throttled,
)
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import FileReport, ImportReport
from chalk_flask.roster.package.archive import Package, open_package
from chalk_flask.roster.package.checksum import PackageChecksum, package_checksum
from chalk_flask.roster.package.manifest_check import declared_modes
from chalk_flask.roster.package.problems import ImportProblems, PackageRejected
from chalk_flask.storage import RosterStore

__all__ = ["ImportOptions", "OnCommit", "Progress", "import_package", "run_once"]


def import_package(
    store: RosterStore,
    tenant: str,
    path: Path,
    options: ImportOptions,
    *,
    requested_by: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
    on_commit: OnCommit | None = None,
    on_hold: OnCommit | None = None,
) -> ImportReport:
    """Make the stored roster of the tenant what the package says; the report tells what that changed.

    A package with any error changes nothing, and neither does one that trips the brake: it is held. Reading and
    comparing happen without the store's lock; if the roster moves meanwhile, they happen again. `also` is called in the
    transaction that changes something, `on_hold` in the one that stores that something is held; `who` asked for it.
    Raises StorageError.
    """
    name = path.name or path.resolve().name
    told = progress and throttled(progress)
    run = f"run-{uuid.uuid4()}"
    job = ImportJob(store, tenant, run, name, path, options, requested_by, dry_run, told, on_commit, on_hold)
    begun = time.monotonic()
    report = _run_until_current(job)
    report.seconds = time.monotonic() - begun
    if not dry_run:
        hold.store_rejected(job, report)
        hold.remove_expired(store, options.folder)
    return report


def _run_until_current(job: ImportJob) -> ImportReport:
    with contextlib.ExitStack() as stack:
        while True:
            report = job.report()
            try:
                run_once(job, report)
            except hold.HoldRequired:
                try:
                    job = stack.enter_context(hold.job_on_copy(job))
                except OSError as error:
                    hold.reject_unholdable(report, error)
                    return report
                continue
            except RosterChanged:
                continue
            return report


def run_once(job: ImportJob, report: ImportReport) -> None:
    """Try once. Raises Moved when the roster moved meanwhile, Held for what trips the brake and is no copy yet."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack, contextlib.suppress(PackageRejected):
        stack.enter_context(low_memory_mode(job.options.limits.field))
        package = stack.enter_context(open_package(job.path, job.options.limits, report.problems))
        seen = _seen(job, report)
        with job.store.read(job.tenant) as before:
            revision = before.revision
            _check_revision(job, revision)
            if _is_known(job, before, report):
                comparison = None
            else:
                package.modes = declared_modes(package, report.problems)
                comparison = stack.enter_context(_compared(package, before, report, job))
        _check_unchanged(job, report.problems, seen)
        report.seconds = time.monotonic() - begun
        _finish(job, report, comparison, revision, seen)


def _seen(job: ImportJob, report: ImportReport) -> PackageChecksum:
    seen = package_checksum(job.path, job.options.limits.size)
    if seen is None:
        most = job.options.limits.size >> 20
        message = f"the package cannot be read whole, or has more than {most} MiB"
        report.problems.error("too_large", message, "Raise import_max_mb if the package is genuine.")
        raise PackageRejected
    report.sha256 = job.package or seen.sha256
    if job.approved and job.approved.held_sha256 != seen.sha256:
        raise AlreadyDecided
    return seen


def _check_revision(job: ImportJob, revision: int) -> None:
    if job.approved and job.approved.revision != revision:
        raise RosterChanged


def _check_unchanged(job: ImportJob, problems: ImportProblems, seen: PackageChecksum) -> None:
    """What was hashed is what was read, or nothing is done."""
    if not problems.total and package_checksum(job.path, job.options.limits.size) != seen:
        message = "the package was changed while it was read"
        problems.error("changing", message, "Import it once it is written to its end.")
    if problems.total:
        raise PackageRejected


def _is_known(job: ImportJob, before: Snapshot, report: ImportReport) -> bool:
    """Whether the same package made this roster what it is, and no tombstone has become old since then."""
    if job.dry_run or job.approved or job.is_copy or report.sha256 is None:
        return False
    run = history.find_same_package(before, ["committed", "unchanged"], report.sha256, job.options.to_dict())
    if run is None or any(
        before.exists(each.collection, each.where) for each in old_tombstone_counts(job.options.tombstone_days)
    ):
        return False
    earlier = ImportReport.from_dict(run.report)
    own = {name: each for name, each in earlier.files.items() if each.mode}
    report.files = {name: FileReport(each.rows, {"unchanged": each.rows}, each.mode) for name, each in own.items()}
    report.problems.warnings = earlier.problems.warnings
    report.earlier = earlier.earlier or run.id
    return True


def _finish(
    job: ImportJob, report: ImportReport, comparison: RosterDiff | None, revision: int, seen: PackageChecksum
) -> None:
    if report.dry_run:
        report.state = "checked"
    elif report.exceeded and job.is_copy:
        hold.hold(job, report, seen, revision)
    elif report.exceeded:
        raise hold.HoldRequired
    elif comparison is None or (not comparison.changed_count and not report.purged):
        if comparison is not None:
            _claim_provenance(job.store, report.tenant, comparison, revision)
        _remember_unchanged(job, report, revision)
        report.state = "unchanged"
    else:
        report.timestamp = _write(job.store, report, comparison, revision, job.progress, partial(_remember, job))
        report.state = "committed"
        _complete(job, report)


def _remember(job: ImportJob, report: ImportReport, transaction: Transaction) -> None:
    job.check_approved(transaction)
    history.store_run(transaction, job.as_run("committed", report), datetime.now(UTC))
    (job.on_commit or no_callback)(report, transaction)


def _remember_unchanged(job: ImportJob, report: ImportReport, revision: int) -> None:
    with job.store.write(job.tenant) as transaction:
        job.check_approved(transaction)
        known = revision if transaction.revision == revision else None
        history.store_run(transaction, job.as_run("unchanged", report, known), datetime.now(UTC))
        Outbox(transaction, job.tenant, report.run, first=False).finish(last_sequence(transaction), report.counts())


def _complete(job: ImportJob, report: ImportReport) -> None:
    """Add to the record what was not known in the transaction: the roster's revision after it, and the last stamp.

    Without them nothing is wrong, but the same package is read through when it comes again.
    """
    assert report.timestamp is not None
    last = clock.timestamp_record(report.timestamp)
    with contextlib.suppress(StorageError), job.store.write(job.tenant) as transaction:
        moved = transaction.get_many(clock.COLLECTION, [last.key]) != {last.key: last.body}
        history.store_run(
            transaction, job.as_run("committed", report, None if moved else transaction.revision), datetime.now(UTC)
        )


@contextlib.contextmanager
def _compared(package: Package, before: Snapshot, report: ImportReport, job: ImportJob) -> Iterator[RosterDiff]:
    comparison = RosterDiff(package, before, report.problems, job.options.map_roles, job.progress)
    with contextlib.closing(comparison):
        comparison.compare(job.options.tombstone_days)
        report.files = {
            name: FileReport(
                comparison.reader.rows.get(name, 0), dict(comparison.changes[name].counts), package.modes.get(name)
            )
            for name in FILES
            if name in comparison.reader.rows or comparison.changes[name].changed_count
        }
        report.purged = sum(map(len, comparison.purged.values()))
        if not report.problems.total:
            brake = job.options.thresholds
            report.exceeded = [
                trip
                for name, file in report.files.items()
                for trip in brake.exceeded(name, file.counts, cache(partial(_active, before, name)))
            ]
        yield comparison


def _active(before: Snapshot, name: str) -> int:
    # Every record has a stamp; named, SQLite counts by its index instead of going from key to key.
    active = And((Compare("status", "=", ACTIVE), Compare("dateLastModified", ">=", "")))
    return before.find(Query(name, active, limit=0)).total


def _write(
    store: RosterStore,
    report: ImportReport,
    comparison: RosterDiff,
    revision: int,
    progress: Progress | None,
    also: OnCommit,
) -> str:
    """Write what differs, under one stamp that does not lie before the commit (see `clock`). Returns the stamp."""
    begin = partial(store.write, report.tenant)
    lead = clock.commit_lead(comparison.changed_count)
    with write_with_final_timestamp(begin, report.tenant, lead, first=revision == 0, run=report.run) as writer:
        if writer.transaction.revision != revision:
            raise RosterChanged
        for name, keys in comparison.purged.items():
            writer.purge(name, keys)
        writer.transaction.delete(provenance.COLLECTION, comparison.provenance_keys)
        for name, changes in comparison.changes.items():
            if progress:
                progress(f"writing {name}", changes.changed_count)
            if changes.changed_count:
                writer.put(name, changes.records, changes.keys)
        writer.finish(report.counts())
        also(report, writer.transaction)
    clock.wait_until(writer.timestamp, writer.lead)
    return writer.timestamp


def _claim_provenance(store: RosterStore, tenant: str, comparison: RosterDiff, revision: int) -> None:
    """Note that records which did not change are the package's from now on, where a grade tool had written them."""
    if comparison.provenance_keys:
        with store.write(tenant) as transaction:
            if transaction.revision != revision:
                raise RosterChanged
            transaction.delete(provenance.COLLECTION, comparison.provenance_keys)
