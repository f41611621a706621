"""Last step of an import: write the differences, and the run, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from backends import OnProgress, Record, StorageError, Transaction
from chalk_flask.outbox import Outbox, load_subscriptions
from chalk_flask.roster.changes import ChangeCause, RosterWriter, clock, grade_tool_records
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.changes.version import RosterVersion, ToolWrites, find_tool_writes, has_conflicts
from chalk_flask.roster.changes.writer import RecordsWithTimestamp, write_with_final_timestamp
from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.diff.diff import RosterDiff
from chalk_flask.roster.diff.first_load import FirstLoad
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.parameters import ImportJob, RosterChangedError, no_callback
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.reader import ROWS_PER_PROGRESS_CALL
from chalk_flask.storage import RosterStore
from chalk_flask.times import utc_now

__all__ = ["has_roster", "prepare_first_load", "store_changes", "store_unchanged"]


def prepare_first_load(job: ImportJob, report: ImportReport, version: RosterVersion) -> FirstLoad:
    """Return the first load of a tenant with this version and without a roster. It begins at its first `put`.

    `put` raises RosterChangedError if another writer has changed the version, or has loaded another tenant, which would
    wait for the lock. It also raises it if there is a webhook now: webhooks receive the files in their order.
    """

    @contextlib.contextmanager
    def begin() -> Iterator[RosterWriter]:
        write = partial(job.store.write, job.tenant)
        with write_with_final_timestamp(write, job.tenant, 0.0, first=True, run=report.run) as writer:
            is_changed = writer.transaction.revision != version.revision
            if is_changed or load_subscriptions(writer.transaction) or has_roster(job.store):
                raise RosterChangedError
            yield writer

    return FirstLoad(begin)


def has_roster(store: RosterStore) -> bool:
    """Return True if a tenant of the store has a roster."""
    return any(map(partial(_tenant_has_roster, store), store.tenants()))


def _tenant_has_roster(store: RosterStore, tenant: str) -> bool:
    with store.read(tenant) as snapshot:
        return snapshot.revision > 0


def store_changes(job: ImportJob, report: ImportReport, diff: RosterDiff, version: RosterVersion) -> None:
    """Write the changed records and the run, and return once the timestamp of the records has passed.

    Raises RosterChangedError if the roster changed after this version and the change concerns the diff. Raises
    AlreadyDecidedError and StorageError.
    """
    report.timestamp, is_current = _write_records(job, report, diff, version)
    report.state = "committed"
    if is_current:
        _store_final_revision(job, report)


def store_unchanged(job: ImportJob, report: ImportReport, diff: RosterDiff | None, version: RosterVersion) -> None:
    """Store the run of a package that changes nothing. Without `diff`, an earlier run had imported the same package.

    Raises RosterChangedError, AlreadyDecidedError and StorageError.
    """
    if diff is not None and diff.notes_to_delete:
        _delete_notes(job, diff, version)
    with job.store.write(job.tenant) as transaction:
        job.check_still_held(transaction)
        run = job.to_run("unchanged", report, version.revision if transaction.revision == version.revision else None)
        history.store_run(transaction, run, utc_now())
        Outbox(transaction, job.tenant, report.run, first=False).finish(last_sequence(transaction), report.counts())
        job.report_result(report, "unchanged", transaction)
    report.state = "unchanged"


def _write_records(job: ImportJob, report: ImportReport, diff: RosterDiff, version: RosterVersion) -> tuple[str, bool]:
    """Write all changes with one timestamp that does not lie before the commit. Return it once it has passed.

    Also return True if no grade tool wrote after the version.
    """
    with _begin_or_continue(job, report, diff, version) as writer:
        written = _tool_writes_beside(diff, writer.transaction, version)
        for name, keys in diff.purged.items():
            writer.purge(name, keys)
        _release_notes(diff, writer.transaction, written)
        for name, changes in diff.changes.items():
            if changes.changed_count and not changes.is_written:
                writer.put(name, _with_progress(job, name, changes), changes.keys)
        if has_conflicts(writer.transaction, written):
            raise RosterChangedError
        writer.finish(report.counts())
        _store_run(job, report, writer.transaction)
    clock.wait_until(writer.timestamp, writer.lead)
    return writer.timestamp, not written


def _begin_or_continue(
    job: ImportJob, report: ImportReport, diff: RosterDiff, version: RosterVersion
) -> AbstractContextManager[RosterWriter]:
    """Return the open transaction of the first load, or else a new one."""
    if diff.first_load and diff.first_load.has_begun:
        return diff.first_load.writing()
    begin = partial(job.store.write, job.tenant)
    lead = clock.commit_lead(diff.changed_count)
    cause = ChangeCause(run=report.run) if job.keeps_history else None
    is_first = version.revision == 0
    return write_with_final_timestamp(begin, job.tenant, lead, first=is_first, run=report.run, cause=cause)


def _with_progress(job: ImportJob, name: str, changes: ChangeSet) -> RecordsWithTimestamp:
    """Return the records of a collection as `changes.records` does, and report how many of them are written."""
    on_progress = job.on_progress

    def records(timestamp: str) -> Iterator[Record]:
        nonlocal on_progress
        # The records are written again if the commit came later than their timestamp. Only the first pass reports.
        first_pass, on_progress = on_progress, None
        if first_pass is None:
            return changes.records(timestamp)
        return _reporting(changes.records(timestamp), f"writing {name}", changes.changed_count, first_pass)

    return records


def _reporting(records: Iterator[Record], phase: str, total: int, on_progress: OnProgress) -> Iterator[Record]:
    for number, record in enumerate(records):
        if number % ROWS_PER_PROGRESS_CALL == 0:
            on_progress(phase, number, total)
        yield record
    on_progress(phase, total, total)


def _tool_writes_beside(diff: RosterDiff, transaction: Transaction, version: RosterVersion) -> ToolWrites:
    """Return the records that grade tools wrote after the diff, none of which it changes (interpretation I-32).

    Raises RosterChangedError if the diff changes one of them, or if an import changed the roster.
    """
    written = find_tool_writes(transaction, version)
    if written is None or any(not diff.changed_keys(name).isdisjoint(keys) for name, keys in written.items()):
        raise RosterChangedError
    return written


def _release_notes(diff: RosterDiff, transaction: Transaction, written: ToolWrites) -> None:
    """Store that the package owns the records which it contains, except those that a tool has written since."""
    kept = {grade_tool_records.note_key(name, key) for name, keys in written.items() for key in keys}
    transaction.delete(grade_tool_records.COLLECTION, [note for note in diff.notes_to_delete if note not in kept])


def _store_run(job: ImportJob, report: ImportReport, transaction: Transaction) -> None:
    job.check_still_held(transaction)
    history.store_run(transaction, job.to_run("committed", report), utc_now())
    (job.on_commit or no_callback)(report, transaction)
    job.report_result(report, "committed", transaction)


def _store_final_revision(job: ImportJob, report: ImportReport) -> None:
    """Add the final timestamp and the revision after the transaction to the stored run.

    If this fails, the next import of the same package reads it again. Nothing else depends on it.
    """
    assert report.timestamp is not None
    clock_record = clock.timestamp_record(report.timestamp)
    with contextlib.suppress(StorageError), job.store.write(job.tenant) as transaction:
        is_latest = transaction.get_many(clock.COLLECTION, [clock_record.key]) == {clock_record.key: clock_record.body}
        run = job.to_run("committed", report, transaction.revision if is_latest else None)
        history.store_run(transaction, run, utc_now())


def _delete_notes(job: ImportJob, diff: RosterDiff, version: RosterVersion) -> None:
    """Store that the package, and no longer a grade tool, owns records which it contains without a difference."""
    with job.store.write(job.tenant) as transaction:
        _release_notes(diff, transaction, _tool_writes_beside(diff, transaction, version))
