"""Changed records of a collection, stored in a temporary file until one transaction writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias

import orjson

from backends import Record, Snapshot, batched
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import ResourceType, timestamp_setter, without_timestamp
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.diff.external_sort import ExternalSorter, SortableRecord
from chalk_flask.roster.diff.stored_bodies import StoredBodies

__all__ = ["ChangeSet", "Outcome"]

Outcome: TypeAlias = Literal["created", "updated", "deleted", "revived", "unchanged"]
"""Effect of an import on one record. `revived`: a deleted record becomes active again."""


BATCH_SIZE: Final = 250

_METADATA: Final = b'"metadata":{'


class ChangeSet:
    """Records of one collection that differ from the snapshot `stored`, and the number of records by outcome.

    With `tracks_deletions`, `deleted_ids` holds the ids of the records that the import deletes. `is_bulk` is True if
    the rows are those of a bulk file, whose order is often that of the store.
    """

    def __init__(
        self, resource_type: ResourceType, stored: Snapshot, *, tracks_deletions: bool = False, is_bulk: bool = False
    ) -> None:
        self.resource_type = resource_type
        self.counts: Counter[Outcome] = Counter()
        self.deleted_ids: set[str] = set()
        self.active_matches = 0
        """Number of compared rows whose stored record is active."""
        self._tracks_deletions = tracks_deletions
        self._stored = stored
        self._is_empty = not stored.exists(resource_type.name)
        self._bodies = StoredBodies(stored, resource_type.name, in_order=is_bulk)
        self._sorter = ExternalSorter()
        self.is_written = False
        """True if a first load has written the records already."""

    @property
    def changed_count(self) -> int:
        """The number of records to write."""
        return self.counts.total() - self.counts["unchanged"]

    def compare(self, rows: list[SortableRecord]) -> None:
        """Compare a batch of about a thousand records with the stored ones, and add those that differ.

        A row with an empty body deletes the stored record with its key.
        """
        if self._is_empty:
            rows = [row for row in rows if row[1]]
            self.counts["created"] += len(rows)
            self._sorter.add(rows)
            return
        stored = self._bodies.get_many([row[0] for row in rows])
        changed = []
        unchanged_count = 0
        for row in rows:
            key, body, _ = row
            stored_body = stored.get(key)
            # Nearly all rows of a nightly import are unchanged: compare first, classify the others.
            if stored_body is not None and _is_same(body, without_timestamp(stored_body)):
                unchanged_count += 1
                self.active_matches += row[2]["status"] == ACTIVE
                continue
            if stored_body is not None:
                self.active_matches += ResourceType.is_active(stored_body)
            outcome = _outcome(body, stored_body)
            if outcome == "deleted" and not body:
                self.add(self.resource_type.tombstone(stored[key]), "deleted")
                continue
            self.counts[outcome] += 1
            if outcome != "unchanged":
                changed.append(row)
                if outcome == "deleted":
                    self._track_deletion(key)
        if unchanged_count:
            self.counts["unchanged"] += unchanged_count
        self._sorter.add(changed)

    def created_records(
        self, rows: Iterator[SortableRecord], timestamp: str, is_valid: Callable[[], bool]
    ) -> Iterator[Record]:
        """Count all rows of a new collection, and yield their records with this timestamp.

        The caller writes the records while it reads the rows. Once `is_valid` returns False, count the other rows only.
        """
        self.is_written = True
        for batch in batched(rows, BATCH_SIZE):
            self.counts["created"] += len(batch)
            if is_valid():
                yield from _with_timestamp(batch, timestamp)

    def add(self, record: Record, outcome: Outcome) -> None:
        """Add a record without comparing it, for example a tombstone."""
        self.counts[outcome] += 1
        if outcome == "deleted":
            self._track_deletion(record.key)
        values = {path: value for path, value in record.values.items() if path != "dateLastModified"}
        self._sorter.add([(record.key, without_timestamp(record.body), values)])

    def records(self, timestamp: str) -> Iterator[Record]:
        """Return the changed records with this timestamp, in the order of their keys. Can be called repeatedly."""
        return _with_timestamp(self._sorter.rows(), timestamp)

    def keys(self) -> Iterator[str]:
        """Yield the keys of the changed records, in the same order."""
        return (key for key, _, _ in self._sorter.rows())

    def outcomes(self) -> Iterator[tuple[Outcome, str, bytes]]:
        """Yield outcome, key and body (without timestamp) of the changed records, in the same order.

        Reads the stored records again, so the snapshot must be open.
        """
        for batch in batched(self._sorter.rows(), BATCH_SIZE):
            stored = {} if self._is_empty else self._stored.get_many(self.resource_type.name, [row[0] for row in batch])
            for key, body, _ in batch:
                yield _outcome(body, stored.get(key)), key, body

    def close(self) -> None:
        """Delete the temporary file."""
        self._sorter.close()

    def _track_deletion(self, key: str) -> None:
        if self._tracks_deletions:
            self.deleted_ids.add(key)


def _with_timestamp(rows: Iterable[SortableRecord], timestamp: str) -> Iterator[Record]:
    folded, set_timestamp = fold(timestamp), timestamp_setter(timestamp)
    for key, body, values in rows:
        values["dateLastModified"] = folded
        yield Record(key, set_timestamp(body), values)


def _is_same(body: bytes, stored: bytes) -> bool:
    """Return True if two bodies are equal, except for the order of the metadata: that of the columns may change."""
    if body == stored:
        return True
    return len(body) == len(stored) and _METADATA in body and orjson.loads(body) == orjson.loads(stored)


def _outcome(body: bytes, stored: bytes | None) -> Outcome:
    if not body:  # a deleting row of a delta file; its record may not exist
        return "deleted" if stored is not None and ResourceType.is_active(stored) else "unchanged"
    active = ResourceType.is_active(body)
    if stored is None:
        return "created"
    if without_timestamp(stored) == body:
        return "unchanged"
    if not ResourceType.is_active(stored):
        return "revived" if active else "updated"
    return "updated" if active else "deleted"
