"""Sequence numbers of a tenant. A record whose served bytes change gets the next one in the same transaction.

A client of the change feed requests the records above the last number that it received. It misses none, independent of
clocks. The number is stored in a sequence entry for each record. A record that changed twice has only its last number,
so the feed returns it once.

The first load of a tenant gets one number as a whole, and none for each record. A client that followed the empty tenant
must do a full read then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson

from backends import Compare, Query, Record, Snapshot, Transaction
from chalk_flask.oneroster.schemas import RESOURCES

__all__ = [
    "COLLECTION",
    "FIELD",
    "FIRST_LOAD",
    "ChangeSequence",
    "changed_since",
    "last_sequence",
    "oldest_resumable_sequence",
    "restart_sequence",
    "sequence_numbers",
    "sequence_of",
]

COLLECTION = "sequence"
FIELD = "number"
"""Field of a sequence entry that holds the sequence number."""

FIRST_LOAD = 1
"""Sequence number of the first load of a tenant."""

RESTART_DISTANCE = 10**9
"""Distance between the numbers before and after a restored backup. No store assigns so many numbers in between."""

_STATE = ":state"
"""Key of the record with the last numbers. Keys of entries contain a slash."""


class ChangeSequence:
    """Assignment of sequence numbers in one transaction. Call `store` last.

    If `first` is True, this is the first load of the tenant, and records get no numbers.
    """

    def __init__(self, transaction: Transaction, *, first: bool) -> None:
        self._transaction = transaction
        self._first = first
        self._last, self._purged = self._before = _read_state(transaction)
        if first and not self._last:
            self._last = self._purged = FIRST_LOAD

    def assign(self, collection: str, keys: Iterable[str]) -> range:
        """Assign numbers to the records with these keys, in this order, and return them.

        The range is empty for the first load and for a collection that the API does not serve.
        """
        before = self._last
        if collection in RESOURCES and not self._first:
            self._transaction.put(COLLECTION, self._entries(collection, keys))
        return range(before + 1, self._last + 1)

    @property
    def last(self) -> int:
        """The last assigned number."""
        return self._last

    def remove(self, collection: str, keys: Iterable[str]) -> None:
        """Delete the sequence entries of purged records.

        A client below the current number may have missed their deletion, so it must do a full read.
        """
        entry_keys = [_entry_key(collection, key) for key in keys]
        if entry_keys:
            self._transaction.delete(COLLECTION, entry_keys)
            self._purged = self._last

    def store(self) -> None:
        """Write the last numbers, if they changed."""
        if (self._last, self._purged) != self._before:
            body = orjson.dumps({"last": self._last, "purged": self._purged})
            self._transaction.put(COLLECTION, [Record(_STATE, body)])

    def _entries(self, collection: str, keys: Iterable[str]) -> Iterator[Record]:
        for key in keys:
            self._last += 1
            body = orjson.dumps({"sequence": self._last, "collection": collection, "sourcedId": key})
            yield Record(_entry_key(collection, key), body, {FIELD: float(self._last), "collection": collection})


def last_sequence(snapshot: Snapshot) -> int:
    """Return the last assigned number; 0 if there is none."""
    return _read_state(snapshot)[0]


def sequence_of(snapshot: Snapshot, collection: str, key: str) -> int | None:
    """Return the sequence number of a record; None if it has not changed since the first load."""
    return sequence_numbers(snapshot, collection, [key]).get(key)


def sequence_numbers(snapshot: Snapshot, collection: str, keys: Sequence[str]) -> dict[str, int]:
    """Return the sequence numbers of records by key. Those that have not changed since the first load have none."""
    bodies = snapshot.get_many(COLLECTION, [_entry_key(collection, key) for key in keys])
    entries = map(orjson.loads, bodies.values())
    return {entry["sourcedId"]: entry["sequence"] for entry in entries}


def changed_since(snapshot: Snapshot, number: int) -> dict[str, list[str]]:
    """Return the ids of the records with a sequence number above this one, by collection."""
    changed: dict[str, list[str]] = {}
    for chunk in snapshot.find(Query(COLLECTION, Compare(FIELD, ">", float(number)))).chunks:
        for entry in orjson.loads(b"[%b]" % chunk):
            changed.setdefault(entry["collection"], []).append(entry["sourcedId"])
    return changed


def oldest_resumable_sequence(snapshot: Snapshot) -> int:
    """Return the lowest number from which a client can continue without a full read.

    It is the last number assigned before the latest purge, or that of the first load; 0 if there was neither.
    """
    return _read_state(snapshot)[1]


def restart_sequence(transaction: Transaction) -> None:
    """Skip the numbers that were assigned after a backup was created, and lost when it was restored.

    A client that received such a number, or a number before the backup, must do a full read. A tenant without a roster
    keeps its numbers.
    """
    last, _ = _read_state(transaction)
    if last:
        last += RESTART_DISTANCE
        transaction.put(COLLECTION, [Record(_STATE, orjson.dumps({"last": last, "purged": last}))])


def _read_state(snapshot: Snapshot) -> tuple[int, int]:
    body = snapshot.get_many(COLLECTION, [_STATE]).get(_STATE)
    if body is None:
        return 0, 0
    state = orjson.loads(body)
    return state["last"], state["purged"]


def _entry_key(collection: str, key: str) -> str:
    return f"{collection}/{key}"
