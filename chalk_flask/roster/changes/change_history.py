"""Change history of records: written with each transaction, read for one record, and erased when a record is purged."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from backends import Record, Snapshot, Transaction, batched
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.roster.changes.history_block import (
    BLOCK_SIZE,
    COLLECTION,
    BlockKind,
    ChangeCause,
    HistoryBlock,
    StoredChange,
    find_block,
)
from chalk_flask.roster.changes.sequence import sequence_numbers, sequence_of

__all__ = ["ChangeCause", "HistoryWriter", "PastChange", "changes_of", "erase_history"]

PURGE_BATCH_SIZE: Final = 1000
"""Purged records whose changes are erased at once."""

ChangeOutcome: TypeAlias = Literal["created", "updated", "deleted", "revived"]
"""Effect of a change on one record."""


class HistoryWriter:
    """Writer of the change history of one transaction."""

    def __init__(self, transaction: Transaction, cause: ChangeCause) -> None:
        self._transaction = transaction
        self._cause = cause

    def read_former(self, collection: str, records: Sequence[Record]) -> list[StoredChange]:
        """Return the changes that the caller is about to write, with the former states of the records."""
        keys = [record.key for record in records]
        bodies = self._transaction.get_many(collection, keys)
        numbers = sequence_numbers(self._transaction, collection, list(bodies))
        return [
            StoredChange(key, numbers.get(key), before, body)
            if (before := bodies.get(key)) is not None
            else StoredChange(key)
            for key, body, _ in records
        ]

    def store(
        self, collection: str, changes: Sequence[StoredChange], first: int, time: str, *, is_restamp: bool = False
    ) -> None:
        """Store changes. `first` is the number of the first one. Of a restamp, only the numbers are stored."""
        if is_restamp:
            changes = [change._replace(before=b"", after=b"") for change in changes]
        blocks = []
        for batch in batched(changes, BLOCK_SIZE):
            blocks.append(self._block(collection, first, batch, time, is_restamp=is_restamp).to_record())
            first += len(batch)
        self._transaction.put(COLLECTION, blocks)

    def store_created(self, collection: str, numbers: range, time: str) -> None:
        """Store that the records with these numbers are new."""
        if numbers:
            block = HistoryBlock(numbers[0], numbers[-1], collection, time, self._cause, "created")
            self._transaction.put(COLLECTION, [block.to_record()])

    def _block(
        self, collection: str, first: int, changes: Sequence[StoredChange], time: str, *, is_restamp: bool
    ) -> HistoryBlock:
        last, kind = first + len(changes) - 1, _kind(changes, is_restamp=is_restamp)
        return HistoryBlock(first, last, collection, time, self._cause, kind, () if kind == "created" else changes)


def _kind(changes: Sequence[StoredChange], *, is_restamp: bool) -> BlockKind:
    if is_restamp:
        return "restamped"
    return "changed" if any(change.before for change in changes) else "created"


@dataclass(frozen=True, slots=True)
class PastChange:
    """Change of one record. `number` is its sequence number, and `time` its final timestamp.

    `before` and `after` are the stored bodies; None for a record that was created.
    """

    number: int
    time: str
    cause: ChangeCause
    outcome: ChangeOutcome
    before: bytes | None = None
    after: bytes | None = None


def changes_of(snapshot: Snapshot, collection: str, key: str, start: int | None = None) -> Iterator[PastChange]:
    """Yield the stored changes of a record, newest first.

    With `start`, begin with the change of this number. If the record has no change of this number, yield nothing.
    """
    number, final = start or sequence_of(snapshot, collection, key), None
    while number is not None and (block := find_block(snapshot, collection, number)):
        change = block.change(number)
        if block.kind != "created" and change.key != key:
            return
        if block.kind == "restamped":
            final = final or (number, block.time)
        else:
            shown_number, time = final or (number, block.time)
            yield _past_change(shown_number, time, block.cause, change)
            final = None
        number = change.previous


def _past_change(number: int, time: str, cause: ChangeCause, change: StoredChange) -> PastChange:
    if not change.before:
        return PastChange(number, time, cause, "created")
    return PastChange(number, time, cause, _outcome(change.before, change.after), change.before, change.after)


def _outcome(before: bytes, after: bytes) -> ChangeOutcome:
    was_active, is_active = ResourceType.is_active(before), ResourceType.is_active(after)
    if was_active == is_active:
        return "updated"
    return "revived" if is_active else "deleted"


def erase_history(transaction: Transaction, collection: str, keys: Sequence[str]) -> None:
    """Erase the changes of records that are purged. Call it before their sequence entries are deleted."""
    if not transaction.exists(COLLECTION):
        return
    for batch in batched(keys, PURGE_BATCH_SIZE):
        _erase(transaction, collection, sequence_numbers(transaction, collection, batch))


def _erase(transaction: Transaction, collection: str, numbers: Mapping[str, int]) -> None:
    """Erase chains of changes, which begin at these numbers. Each block is rewritten once, from the newest on."""
    pending = [-number for number in numbers.values()]
    heapq.heapify(pending)
    while pending:
        block = find_block(transaction, collection, -pending[0])
        first = block.first if block else -pending[0]
        erased = set()
        while pending and -pending[0] >= first:
            number = -heapq.heappop(pending)
            erased.add(number)
            if block and (previous := block.change(number).previous) is not None:
                heapq.heappush(pending, -previous)
        if block and block.changes:
            _replace_block(transaction, block, frozenset(erased))


def _replace_block(transaction: Transaction, block: HistoryBlock, erased: frozenset[int]) -> None:
    remaining = block.without(erased)
    if remaining:
        transaction.put(COLLECTION, [remaining.to_record()])
    else:
        transaction.delete(COLLECTION, [block.to_record().key])
