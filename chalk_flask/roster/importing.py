"""Import of a OneRoster CSV package: refused, or committed in one transaction."""

from __future__ import annotations

import contextlib
import csv
import gc
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from backends import Record, Snapshot, Transaction
from chalk_flask.oneroster.resources import FILES
from chalk_flask.roster import clock, origins
from chalk_flask.roster.comparing import Comparison
from chalk_flask.roster.declaration import declared_modes
from chalk_flask.roster.ledger import Ledger
from chalk_flask.roster.opening import Rosters
from chalk_flask.roster.package import Limits, Package, open_package
from chalk_flask.roster.problems import Problems, Refused, encodable
from chalk_flask.roster.report import FileReport, Report
from chalk_flask.settings import Settings

__all__ = ["Also", "Options", "Progress", "import_package"]

Progress: TypeAlias = Callable[[str, int], None]
"""Told the phase (a file's name, or "writing") and how many rows of it are done."""

Also: TypeAlias = Callable[[Report, Transaction], None]
"""Given the report, whose counts are final, and the transaction that writes what it counts."""


BATCH = 1000


@dataclass(frozen=True)
class Options:
    """What an operator decides about imports."""

    limits: Limits = field(default_factory=Limits)
    map_roles: bool = False
    tombstone_days: int = 90

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """The options in the settings."""
        limits = Limits(
            settings.import_max_entries,
            settings.import_max_mb << 20,
            settings.import_max_ratio,
            settings.import_max_field_kb << 10,
        )
        return cls(limits, settings.map_enrollment_roles, settings.tombstone_days)


class _Moved(Exception):
    """Somebody else wrote the roster since it was compared."""


def import_package(
    store: Rosters,
    tenant: str,
    path: Path,
    options: Options,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    also: Also | None = None,
) -> Report:
    """Make the stored roster of the tenant what the package says; the report tells what that changed.

    A package with any error changes nothing. Reading and comparing happen without the store's lock; if the roster
    moves meanwhile, they happen again. `also` is called in the transaction that changes something. Raises StorageError.
    """
    started = time.monotonic()
    run = f"run-{uuid.uuid4()}"
    progress = progress and _throttled(progress)
    while True:
        report = Report(run, "refused", tenant, encodable(path.name or path.resolve().name), Problems(), dry_run)
        try:
            _attempt(store, report, path, options, progress, also)
        except Refused:
            pass
        except _Moved:
            continue
        report.seconds = time.monotonic() - started
        return report


def _throttled(progress: Progress) -> Progress:
    """Pass on what comes at least a tenth of a second after the last, and every change of phase."""
    last: tuple[str, float] = ("", 0.0)

    def told(phase: str, rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if phase != last[0] or now - last[1] >= 0.1:
            last = (phase, now)
            progress(phase, rows)

    return told


def _attempt(
    store: Rosters, report: Report, path: Path, options: Options, progress: Progress | None, also: Also | None
) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_field_limit(options.limits.field))
        stack.enter_context(_without_collector())
        package = stack.enter_context(open_package(path, options.limits, report.problems))
        package.modes = declared_modes(package, report.problems)
        with store.read(report.tenant) as before:
            revision = before.revision
            comparison = stack.enter_context(_compared(package, before, report, options, progress))
        if report.problems.total:
            return
        if report.dry_run:
            report.state = "checked"
        elif not comparison.total and not report.purged:
            _take_over(store, report.tenant, comparison, revision)
            report.state = "unchanged"
        else:
            report.stamp = _write(store, report, comparison, revision, progress, also or _nothing)
            report.state = "committed"


@contextlib.contextmanager
def _field_limit(limit: int) -> Iterator[None]:
    former = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(former)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of small objects and no cycles: looking for cycles would cost a tenth of the time and find none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _compared(
    package: Package, before: Snapshot, report: Report, options: Options, progress: Progress | None
) -> Iterator[Comparison]:
    comparison = Comparison(package, before, report.problems, options.map_roles, progress)
    with contextlib.closing(comparison):
        comparison.run(options.tombstone_days)
        report.files = {
            name: FileReport(comparison.reading.rows.get(name, 0), dict(comparison.changes[name].counts))
            for name in FILES
            if name in comparison.reading.rows or comparison.changes[name].changed
        }
        report.purged = sum(map(len, comparison.purged.values()))
        yield comparison


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
    stamp = _commit(store, report, comparison, revision, lead, progress, also)
    if 0 < comparison.total <= clock.MANY:
        while (left := clock.seconds_until(stamp)) < clock.TICK:
            lead = 2 * lead - left
            stamp = _stamp_again(store, report.tenant, comparison, revision, stamp, lead)
    # Not longer than the lead: after the system's clock was put back, the stamp may be far away.
    time.sleep(min(max(clock.seconds_until(stamp), 0), lead))
    return stamp


def _nothing(report: Report, transaction: Transaction) -> None:
    """What else is done when nobody asks for anything."""


def _commit(
    store: Rosters,
    report: Report,
    comparison: Comparison,
    revision: int,
    lead: float,
    progress: Progress | None,
    also: Also,
) -> str:
    with store.write(report.tenant) as transaction:
        if transaction.revision != revision:
            raise _Moved
        ledger = Ledger(transaction, report.tenant, lead, first=revision == 0, run=report.run)
        for name, keys in comparison.purged.items():
            ledger.purge(name, keys)
        transaction.delete(origins.COLLECTION, comparison.adopted)
        for name, changes in comparison.changes.items():
            if progress:
                progress(f"writing {name}", changes.changed)
            ledger.put(name, changes.records(ledger.stamp), changes.keys)
        ledger.finish(report.counts())
        also(report, transaction)
    return ledger.stamp


def _take_over(store: Rosters, tenant: str, comparison: Comparison, revision: int) -> None:
    """Note that records which did not change are the package's from now on, where a grade tool had written them."""
    if comparison.adopted:
        with store.write(tenant) as transaction:
            if transaction.revision != revision:
                raise _Moved
            transaction.delete(origins.COLLECTION, comparison.adopted)


def _stamp_again(store: Rosters, tenant: str, comparison: Comparison, revision: int, former: str, lead: float) -> str:
    """Move the stamp of those records that nobody has changed since they were written."""
    with store.write(tenant) as transaction:
        ledger = Ledger(transaction, tenant, lead, first=revision == 0)
        for name, changes in comparison.changes.items():
            records = changes.records(former)
            while batch := list(islice(records, BATCH)):
                stored = transaction.bodies(name, [record.key for record in batch])
                ours = [clock.restamped(r, ledger.stamp) for r in batch if stored.get(r.key) == r.body]
                ledger.put(name, ours, partial(_keys, ours))
        ledger.finish()
    return ledger.stamp


def _keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]
