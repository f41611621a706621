"""The sequence of a tenant: each record whose served bytes change gets the next number, in the same transaction.

A follower who knows the number of his last look asks for what has a higher one, and misses nothing, whatever the clocks
say. A number stands in a note beside the record, one a record, so what changes twice is told once. The first load of a
tenant numbers no record and takes one number as a whole, before which nothing is known: whoever followed the empty
tenant is sent to a full read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from backends import Record, Snapshot, Transaction
from chalk_flask.oneroster.schemas import RESOURCES

__all__ = ["COLLECTION", "FIELD", "FIRST_LOAD", "ChangeSequence", "last_sequence", "oldest_known"]

COLLECTION = "sequence"
FIELD = "number"
FIRST_LOAD = 1
"""The number of a first load."""

_STATE = ":state"
"""The key of what is known of all numbers; those of notes hold a slash."""


class ChangeSequence:
    """Gives numbers in one transaction (not in the `first` one of a tenant); `finish` is called last, and remembers."""

    def __init__(self, transaction: Transaction, *, first: bool) -> None:
        self._transaction = transaction
        self._first = first
        self._last, self._purged = self._before = _read_state(transaction)
        if first and not self._last:
            self._last = self._purged = FIRST_LOAD

    def assign(self, collection: str, keys: Iterable[str]) -> range:
        """Number the records with these keys, in their order; those of a class that is not served get none."""
        before = self._last
        if collection in RESOURCES and not self._first:
            self._transaction.put(COLLECTION, self._number_records(collection, keys))
        return range(before + 1, self._last + 1)

    @property
    def last(self) -> int:
        """The last number that was given."""
        return self._last

    def remove(self, collection: str, keys: Iterable[str]) -> None:
        """Let go of records that are removed for good. Who has not seen them as deleted can no longer learn of it."""
        places = [_record_key(collection, key) for key in keys]
        if places:
            self._transaction.delete(COLLECTION, places)
            self._purged = self._last

    def store(self) -> None:
        """Remember what was given."""
        if (self._last, self._purged) != self._before:
            body = orjson.dumps({"last": self._last, "purged": self._purged})
            self._transaction.put(COLLECTION, [Record(_STATE, body)])

    def _number_records(self, collection: str, keys: Iterable[str]) -> Iterator[Record]:
        for key in keys:
            self._last += 1
            body = orjson.dumps({"sequence": self._last, "collection": collection, "sourcedId": key})
            yield Record(_record_key(collection, key), body, {FIELD: float(self._last), "collection": collection})


def last_sequence(snapshot: Snapshot) -> int:
    """The last number that was given; 0 before the first."""
    return _read_state(snapshot)[0]


def oldest_known(snapshot: Snapshot) -> int:
    """The last number that was given before records were last removed for good, or to the first load; 0 before that."""
    return _read_state(snapshot)[1]


def _read_state(snapshot: Snapshot) -> tuple[int, int]:
    body = snapshot.get_many(COLLECTION, [_STATE]).get(_STATE)
    if body is None:
        return 0, 0
    state = orjson.loads(body)
    return state["last"], state["purged"]


def _record_key(collection: str, key: str) -> str:
    return f"{collection}/{key}"
