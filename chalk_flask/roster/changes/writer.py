"""The one door through which a roster is written: what changes gets its stamp and its number, and is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from backends import Record, Transaction
from chalk_flask.outbox import Outbox
from chalk_flask.roster.changes import clock
from chalk_flask.roster.changes.sequence import ChangeSequence

__all__ = ["RosterWriter"]

BATCH_SIZE = 1000


class RosterWriter:
    """All that one transaction writes to the roster of a tenant; `finish` is called last.

    `stamp` is the `dateLastModified` of what changes, `lead` seconds from now (see `clock`). `first` says that the
    tenant had no roster before, `run` which import it is.
    """

    def __init__(
        self, transaction: Transaction, tenant: str, lead: float, *, first: bool = False, run: str | None = None
    ) -> None:
        self.stamp = clock.next_timestamp(transaction, lead)
        self._transaction = transaction
        self._numbering = ChangeSequence(transaction, first=first)
        self._outbox = Outbox(transaction, tenant, run, first=first)

    def put(self, name: str, records: Iterable[Record], keys: Callable[[], Iterable[str]]) -> None:
        """Write records whose served bytes changed; `keys` gives their keys, in the same order."""
        if self._outbox.has_subscribers(name):
            self._put_and_tell(name, iter(records))
        else:
            self._transaction.put(name, records)
            self._numbering.assign(name, keys())

    def purge(self, name: str, keys: Iterable[str]) -> None:
        """Remove records for good."""
        gone = list(keys)
        self._transaction.delete(name, gone)
        self._numbering.remove(name, gone)

    def finish(self, counts: Mapping[str, Any] | None = None) -> None:
        """Remember the stamp and the numbers, and end what is told; `counts` are those of an import."""
        self._numbering.store()
        self._transaction.put(clock.COLLECTION, [clock.timestamp_record(self.stamp)])
        self._outbox.finish(self._numbering.last, counts)

    def _put_and_tell(self, name: str, records: Iterator[Record]) -> None:
        while batch := list(islice(records, BATCH_SIZE)):
            with self._outbox.batch(name, batch) as events:
                self._transaction.put(name, batch)
                numbers = self._numbering.assign(name, [record.key for record in batch])
                events.assign(numbers or [self._numbering.last] * len(batch))
