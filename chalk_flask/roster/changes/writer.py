"""Write roster records: assign `dateLastModified` and a sequence number, and queue webhook events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeAlias

from backends import Record, Transaction, batched_by_size
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox import Outbox
from chalk_flask.roster.changes import clock
from chalk_flask.roster.changes.change_history import ChangeCause, HistoryWriter, erase_history
from chalk_flask.roster.changes.sequence import ChangeSequence

__all__ = ["RecordsWithTimestamp", "RosterWriter", "write_with_final_timestamp"]

BATCH_SIZE, MAX_BATCH_BYTES = 1000, 4 << 20
"""Maximum number and size of the records that are in memory at once with their events."""

RecordsWithTimestamp: TypeAlias = Callable[[str], Iterable[Record]]
"""Function that returns the records to write with a `dateLastModified`, in the same order at each call."""


@contextmanager
def write_with_final_timestamp(
    begin: Callable[[], Transaction],
    tenant: str,
    lead: float,
    *,
    first: bool = False,
    run: str | None = None,
    by_tool: bool = False,
    cause: ChangeCause | None = None,
) -> Iterator[RosterWriter]:
    """Begin a transaction, yield its writer, and commit. The timestamp does not lie before the commit.

    If the commit comes later than the timestamp, further transactions move the timestamp of the written records
    (interpretation I-05). Records that another writer has changed since keep theirs. With a `lead` of 0 the timestamp
    is not moved. Afterwards the writer's `timestamp` is the final one.
    """
    with begin() as transaction:
        writer = RosterWriter(transaction, tenant, lead, first=first, run=run, by_tool=by_tool, cause=cause)
        yield writer
    tries = 0
    while writer.is_late:
        tries += 1
        next_lead = clock.next_lead(writer.lead, writer.margin, tries)
        with begin() as transaction:
            later = RosterWriter(transaction, tenant, next_lead, first=first, by_tool=by_tool, cause=cause)
            later.restamp(writer)
            later.finish()
        writer.move_to(later)


class RosterWriter:
    """Writer of all roster records of one transaction. Call `finish` last.

    `lead` is the expected time until the commit, in seconds. `first` is True if the tenant has no roster yet.
    `run` is the id of the import. `by_tool` is True for the write of a grade tool. `cause` is stored in the change
    history; without it, and in the first load, there is none.
    """

    def __init__(
        self,
        transaction: Transaction,
        tenant: str,
        lead: float,
        *,
        first: bool = False,
        run: str | None = None,
        by_tool: bool = False,
        cause: ChangeCause | None = None,
    ) -> None:
        self.transaction = transaction
        self.lead = lead
        self._tenant = tenant
        self._first = first
        self._run = run
        self._by_tool = by_tool
        self._history = None if first or cause is None else HistoryWriter(transaction, cause)
        self._written: list[tuple[str, RecordsWithTimestamp]] = []

    @cached_property
    def timestamp(self) -> str:
        """The `dateLastModified` of the records, `lead` seconds after the first access."""
        return clock.next_timestamp(self.transaction, self.lead)

    @property
    def margin(self) -> float:
        """Seconds from the commit to the timestamp; negative if the commit came later."""
        return clock.margin(self.timestamp, self.transaction)

    @property
    def is_late(self) -> bool:
        """True if records were committed after their timestamp."""
        return self.lead != 0 and bool(self._written) and self.margin < clock.RESOLUTION_SECONDS

    def put(self, collection: str, records: RecordsWithTimestamp, keys: Callable[[], Iterable[str]]) -> None:
        """Write records whose served bytes changed; `keys` returns their keys in the same order."""
        self._written.append((collection, records))
        self._put(collection, records(self.timestamp), keys)

    def purge(self, collection: str, keys: Iterable[str]) -> None:
        """Delete records permanently, with their change history."""
        purged = list(keys)
        erase_history(self.transaction, collection, purged)
        self.transaction.delete(collection, purged)
        self._sequence.remove(collection, purged)

    def finish(self, counts: Mapping[str, Any] | None = None) -> None:
        """Store the timestamp and the sequence, and complete the events; `counts` are the counts of an import."""
        self._sequence.store()
        self.transaction.put(clock.COLLECTION, [clock.timestamp_record(self.timestamp)])
        if not self._by_tool:
            self.transaction.put(clock.COLLECTION, [clock.import_timestamp_record(self.timestamp)])
        self._outbox.finish(self._sequence.last, counts)

    def restamp(self, earlier: RosterWriter) -> None:
        """Store the records of an earlier writer again with this later timestamp, except those that changed since."""
        self._outbox.skip_unreported(earlier._outbox)
        for collection, records in earlier._written:
            for batch in _batches(records(earlier.timestamp)):
                stored = self.transaction.get_many(collection, [record.key for record in batch])
                unchanged = [record for record in batch if stored.get(record.key) == record.body]
                restamped = [clock.record_with_timestamp(record, self.timestamp) for record in unchanged]
                self._put(collection, restamped, partial(_keys, restamped), is_restamp=True)

    def move_to(self, later: RosterWriter) -> None:
        """Take over transaction, lead and timestamp of the writer that restamped the records."""
        self.transaction, self.lead, self.timestamp = later.transaction, later.lead, later.timestamp

    @cached_property
    def _sequence(self) -> ChangeSequence:
        return ChangeSequence(self.transaction, first=self._first)

    @cached_property
    def _outbox(self) -> Outbox:
        return Outbox(self.transaction, self._tenant, self._run, first=self._first)

    def _put(
        self, collection: str, records: Iterable[Record], keys: Callable[[], Iterable[str]], *, is_restamp: bool = False
    ) -> None:
        history = self._history if collection in RESOURCES else None
        if self._outbox.has_subscribers(collection):
            self._put_with_events(collection, records, history, is_restamp=is_restamp)
        elif history and (self._by_tool or self.transaction.exists(collection)):
            for batch in _batches(records):
                self._put_batch(collection, batch, history, is_restamp=is_restamp)
        else:  # as a whole, because a backend may load a new collection faster than batch by batch
            self.transaction.put(collection, records)
            numbers = self._sequence.assign(collection, keys())
            if history:
                history.store_created(collection, numbers, self.timestamp)

    def _put_with_events(
        self, collection: str, records: Iterable[Record], history: HistoryWriter | None, *, is_restamp: bool
    ) -> None:
        for batch in _batches(records):
            with self._outbox.batch(collection, batch) as events:
                numbers = self._put_batch(collection, batch, history, is_restamp=is_restamp)
                events.assign(numbers or [self._sequence.last] * len(batch))
        self._outbox.end_collection(collection)

    def _put_batch(
        self, collection: str, batch: list[Record], history: HistoryWriter | None, *, is_restamp: bool
    ) -> range:
        """Write a batch of records, and return their sequence numbers."""
        changes = history.read_former(collection, batch) if history else []
        self.transaction.put(collection, batch)
        numbers = self._sequence.assign(collection, _keys(batch))
        if history and numbers:
            history.store(collection, changes, numbers[0], self.timestamp, is_restamp=is_restamp)
        return numbers


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    return batched_by_size(records, lambda record: len(record.body), BATCH_SIZE, MAX_BATCH_BYTES)


def _keys(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]
