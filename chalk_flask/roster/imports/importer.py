"""Import of a OneRoster CSV package: refused, held, or committed in one transaction."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, partial
from itertools import islice
from pathlib import Path

from backends import AllOf, Compare, Query, Record, Snapshot, StorageError, Transaction
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.outbox import Outbox
from chalk_flask.roster.changes import clock, provenance
from chalk_flask.roster.changes.sequence import latest
from chalk_flask.roster.changes.writer import Ledger
from chalk_flask.roster.diff.diff import Comparison, old_tombstones
from chalk_flask.roster.imports import history, hold
from chalk_flask.roster.imports.job import Also, Job, Moved, Progress, Settled, nothing, steady, throttled
from chalk_flask.roster.imports.options import Options
from chalk_flask.roster.imports.report import FileReport, Report
from chalk_flask.roster.opening import Rosters
from chalk_flask.roster.package.archive import Package, open_package
from chalk_flask.roster.package.checksum import Fingerprint, fingerprint
from chalk_flask.roster.package.manifest_check import declared_modes
from chalk_flask.roster.package.problems import Problems, Refused

__all__ = ["Also", "Options", "Progress", "carry_out", "import_package"]

BATCH = 1000


def import_package(
    store: Rosters,
    tenant: str,
    path: Path,
    options: Options,
    *,
    who: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
    also: Also | None = None,
    on_hold: Also | None = None,
) -> Report:
    """Make the stored roster of the tenant what the package says; the report tells what that changed.

    A package with any error changes nothing, and neither does one that trips the brake: it is held. Reading and
    comparing happen without the store's lock; if the roster moves meanwhile, they happen again. `also` is called in the
    transaction that changes something, `on_hold` in the one that stores that something is held; `who` asked for it.
    Raises StorageError.
    """
    name = path.name or path.resolve().name
    told = progress and throttled(progress)
    run = f"run-{uuid.uuid4()}"
    job = Job(store, tenant, run, name, path, options, who, dry_run, told, also, on_hold)
    begun = time.monotonic()
    report = _carried_out(job)
    report.seconds = time.monotonic() - begun
    if not dry_run:
        hold.remember_refused(job, report)
        hold.tidy(store, options.folder)
    return report


def _carried_out(job: Job) -> Report:
    with contextlib.ExitStack() as stack:
        while True:
            report = job.report()
            try:
                carry_out(job, report)
            except hold.Held:
                try:
                    job = stack.enter_context(hold.copy_of(job))
                except OSError as error:
                    hold.refuse_unheld(report, error)
                    return report
                continue
            except Moved:
                continue
            return report


def carry_out(job: Job, report: Report) -> None:
    """Try once. Raises Moved when the roster moved meanwhile, Held for what trips the brake and is no copy yet."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack, contextlib.suppress(Refused):
        stack.enter_context(steady(job.options.limits.field))
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


def _seen(job: Job, report: Report) -> Fingerprint:
    seen = fingerprint(job.path, job.options.limits.size)
    if seen is None:
        most = job.options.limits.size >> 20
        message = f"the package cannot be read whole, or has more than {most} MiB"
        report.problems.error("too_large", message, "Raise import_max_mb if the package is genuine.")
        raise Refused
    report.sha256 = job.package or seen.sha256
    if job.approved and job.approved.held_sha256 != seen.sha256:
        raise Settled
    return seen


def _check_revision(job: Job, revision: int) -> None:
    if job.approved and job.approved.revision != revision:
        raise Moved


def _check_unchanged(job: Job, problems: Problems, seen: Fingerprint) -> None:
    """What was hashed is what was read, or nothing is done."""
    if not problems.total and fingerprint(job.path, job.options.limits.size) != seen:
        message = "the package was changed while it was read"
        problems.error("changing", message, "Import it once it is written to its end.")
    if problems.total:
        raise Refused


def _is_known(job: Job, before: Snapshot, report: Report) -> bool:
    """Whether the same package made this roster what it is, and no tombstone has become old since then."""
    if job.dry_run or job.approved or job.is_copy or report.sha256 is None:
        return False
    run = history.same(before, ["committed", "unchanged"], report.sha256, job.options.as_dict())
    if run is None or any(before.find(each).total for each in old_tombstones(job.options.tombstone_days)):
        return False
    earlier = Report.of(run.report)
    own = {name: each for name, each in earlier.files.items() if each.mode}
    report.files = {name: FileReport(each.rows, {"unchanged": each.rows}, each.mode) for name, each in own.items()}
    report.problems.warnings = earlier.problems.warnings
    report.earlier = earlier.earlier or run.id
    return True


def _finish(job: Job, report: Report, comparison: Comparison | None, revision: int, seen: Fingerprint) -> None:
    if report.dry_run:
        report.state = "checked"
    elif report.trips and job.is_copy:
        hold.hold(job, report, seen, revision)
    elif report.trips:
        raise hold.Held
    elif comparison is None or (not comparison.total and not report.purged):
        if comparison is not None:
            _take_over(job.store, report.tenant, comparison, revision)
        _remember_unchanged(job, report, revision)
        report.state = "unchanged"
    else:
        report.stamp = _write(job.store, report, comparison, revision, job.progress, partial(_remember, job))
        report.state = "committed"
        _complete(job, report)


def _remember(job: Job, report: Report, transaction: Transaction) -> None:
    job.check_approved(transaction)
    history.keep(transaction, job.as_run("committed", report), datetime.now(UTC))
    (job.also or nothing)(report, transaction)


def _remember_unchanged(job: Job, report: Report, revision: int) -> None:
    with job.store.write(job.tenant) as transaction:
        job.check_approved(transaction)
        known = revision if transaction.revision == revision else None
        history.keep(transaction, job.as_run("unchanged", report, known), datetime.now(UTC))
        Outbox(transaction, job.tenant, report.run, first=False).finish(latest(transaction), report.counts())


def _complete(job: Job, report: Report) -> None:
    """Add to the record what was not known in the transaction: the roster's revision after it, and the last stamp.

    Without them nothing is wrong, but the same package is read through when it comes again.
    """
    assert report.stamp is not None
    last = clock.remember(report.stamp)
    with contextlib.suppress(StorageError), job.store.write(job.tenant) as transaction:
        moved = transaction.bodies(clock.COLLECTION, [last.key]) != {last.key: last.body}
        history.keep(
            transaction, job.as_run("committed", report, None if moved else transaction.revision), datetime.now(UTC)
        )


@contextlib.contextmanager
def _compared(package: Package, before: Snapshot, report: Report, job: Job) -> Iterator[Comparison]:
    comparison = Comparison(package, before, report.problems, job.options.map_roles, job.progress)
    with contextlib.closing(comparison):
        comparison.run(job.options.tombstone_days)
        report.files = {
            name: FileReport(
                comparison.reading.rows.get(name, 0), dict(comparison.changes[name].counts), package.modes.get(name)
            )
            for name in FILES
            if name in comparison.reading.rows or comparison.changes[name].changed
        }
        report.purged = sum(map(len, comparison.purged.values()))
        if not report.problems.total:
            brake = job.options.brake
            report.trips = [
                trip
                for name, file in report.files.items()
                for trip in brake.trips(name, file.counts, cache(partial(_active, before, name)))
            ]
        yield comparison


def _active(before: Snapshot, name: str) -> int:
    # Every record has a stamp; named, SQLite counts by its index instead of going from key to key.
    active = AllOf((Compare("status", "=", ACTIVE), Compare("dateLastModified", ">=", "")))
    return before.find(Query(name, active, limit=0)).total


def _write(
    store: Rosters,
    report: Report,
    comparison: Comparison,
    revision: int,
    progress: Progress | None,
    also: Also,
) -> str:
    """Write what differs, under one stamp that does not lie before the commit (see `clock`). Returns the stamp."""
    lead = clock.ahead(comparison.total)
    stamp, left = _commit(store, report, comparison, revision, lead, progress, also)
    tries = 0
    while 0 < comparison.total <= clock.MANY and left < clock.TICK:
        tries += 1
        lead = clock.again(lead, left, tries)
        stamp, left = _stamp_again(store, report.tenant, comparison, revision, stamp, lead)
    # Not longer than the lead: after the system's clock was put back, the stamp may be far away.
    time.sleep(min(max(clock.seconds_until(stamp), 0), lead))
    return stamp


def _commit(
    store: Rosters,
    report: Report,
    comparison: Comparison,
    revision: int,
    lead: float,
    progress: Progress | None,
    also: Also,
) -> tuple[str, float]:
    """The stamp, and how many seconds before it the commit was."""
    with store.write(report.tenant) as transaction:
        if transaction.revision != revision:
            raise Moved
        ledger = Ledger(transaction, report.tenant, lead, first=revision == 0, run=report.run)
        for name, keys in comparison.purged.items():
            ledger.purge(name, keys)
        transaction.delete(provenance.COLLECTION, comparison.adopted)
        for name, changes in comparison.changes.items():
            if progress:
                progress(f"writing {name}", changes.changed)
            ledger.put(name, changes.records(ledger.stamp), changes.keys)
        ledger.finish(report.counts())
        also(report, transaction)
    return ledger.stamp, clock.left(ledger.stamp, transaction)


def _take_over(store: Rosters, tenant: str, comparison: Comparison, revision: int) -> None:
    """Note that records which did not change are the package's from now on, where a grade tool had written them."""
    if comparison.adopted:
        with store.write(tenant) as transaction:
            if transaction.revision != revision:
                raise Moved
            transaction.delete(provenance.COLLECTION, comparison.adopted)


def _stamp_again(
    store: Rosters, tenant: str, comparison: Comparison, revision: int, former: str, lead: float
) -> tuple[str, float]:
    """Move the stamp of those records that nobody has changed since they were written; the same."""
    with store.write(tenant) as transaction:
        ledger = Ledger(transaction, tenant, lead, first=revision == 0)
        for name, changes in comparison.changes.items():
            records = changes.records(former)
            while batch := list(islice(records, BATCH)):
                stored = transaction.bodies(name, [record.key for record in batch])
                ours = [clock.restamped(r, ledger.stamp) for r in batch if stored.get(r.key) == r.body]
                ledger.put(name, ours, partial(_keys, ours))
        ledger.finish()
    return ledger.stamp, clock.left(ledger.stamp, transaction)


def _keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]
