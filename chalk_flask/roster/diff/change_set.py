"""What an import would change, kept aside in a temporary file until it is written in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, TypeAlias

from backends import Record, Snapshot
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import Resource, stamped, unstamped
from chalk_flask.roster.diff.external_sort import Row, Spool

__all__ = ["Changes", "Outcome"]

Outcome: TypeAlias = Literal["created", "updated", "deleted", "revived", "unchanged"]


class Changes:
    """The records of one collection that differ from what is stored, and how many are how."""

    def __init__(self, resource: Resource, before: Snapshot) -> None:
        self.resource = resource
        self.counts: Counter[Outcome] = Counter()
        self._before = before
        self._empty = next(iter(before.keys(resource.name)), None) is None
        self._spool = Spool()

    @property
    def changed(self) -> int:
        """How many records would be written."""
        return self.counts.total() - self.counts["unchanged"]

    def compare(self, rows: list[Row]) -> None:
        """Compare a batch of records, a thousand or so, with what is stored, and keep those that differ.

        A row without a body deletes what is stored under its key.
        """
        if self._empty:
            rows = [row for row in rows if row[1]]
            self.counts["created"] += len(rows)
            self._spool.add(rows)
            return
        stored = self._before.bodies(self.resource.name, [row[0] for row in rows])
        kept = []
        for row in rows:
            outcome = _outcome(row[1], stored.get(row[0]))
            if outcome == "deleted" and not row[1]:
                self.keep(self.resource.tombstone(stored[row[0]]), "deleted")
                continue
            self.counts[outcome] += 1
            if outcome != "unchanged":
                kept.append(row)
        self._spool.add(kept)

    def keep(self, record: Record, outcome: Outcome) -> None:
        """Keep a record that is known to differ, such as a tombstone."""
        self.counts[outcome] += 1
        values = {path: value for path, value in record.values.items() if path != "dateLastModified"}
        self._spool.add([(record.key, unstamped(record.body), values)])

    def records(self, stamp: str) -> Iterator[Record]:
        """The changed records with their stamp; may be asked again with a later one."""
        folded = fold(stamp)
        for key, body, values in self._spool.rows():
            values["dateLastModified"] = folded
            yield Record(key, stamped(body, stamp), values)

    def keys(self) -> Iterator[str]:
        """The keys of the changed records, in the same order."""
        return (key for key, _, _ in self._spool.rows())

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()


def _outcome(body: bytes, stored: bytes | None) -> Outcome:
    if not body:  # the row of a delta file that deletes: there may be nothing to delete
        return "deleted" if stored is not None and Resource.is_active(stored) else "unchanged"
    active = Resource.is_active(body)
    if stored is None:
        return "created"
    if unstamped(stored) == body:
        return "unchanged"
    if not Resource.is_active(stored):
        return "revived" if active else "updated"
    return "updated" if active else "deleted"
