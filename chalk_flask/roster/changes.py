"""What an import would change, kept aside in a temporary file until it is written in one transaction."""

from __future__ import annotations

import marshal
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias, cast

from backends import Record, Snapshot, Value
from chalk_flask.oneroster.elements import fold
from chalk_flask.oneroster.resource import Resource, stamped, unstamped

__all__ = ["Changes", "Outcome"]

Outcome: TypeAlias = Literal["created", "updated", "deleted", "revived", "unchanged"]

Row: TypeAlias = tuple[str, bytes, dict[str, Value]]
"""A key, a body without its stamp, and its comparison keys without that of the stamp."""

BATCH = 1000
IN_MEMORY = 8 << 20


class Changes:
    """The records of one collection that differ from what is stored, and how many are how."""

    def __init__(self, resource: Resource, before: Snapshot) -> None:
        self.resource = resource
        self.counts: Counter[Outcome] = Counter()
        self._before = before
        self._empty = next(iter(before.keys(resource.name)), None) is None
        self._waiting: list[Row] = []
        self._spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by `close`

    @property
    def changed(self) -> int:
        """How many records would be written."""
        return self.counts.total() - self.counts["unchanged"]

    def add(self, key: str, body: bytes, values: dict[str, Value]) -> None:
        """Compare one record with what is stored (in batches) and keep it if it differs."""
        self._waiting.append((key, body, values))
        if len(self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Compare what is still waiting."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        if self._empty:
            self.counts["created"] += len(rows)
            self._write(rows)
            return
        stored = self._before.bodies(self.resource.name, [row[0] for row in rows])
        kept = []
        for row in rows:
            outcome = _outcome(row[1], stored.get(row[0]))
            self.counts[outcome] += 1
            if outcome != "unchanged":
                kept.append(row)
        if kept:
            self._write(kept)

    def keep(self, record: Record, outcome: Outcome) -> None:
        """Keep a record that is known to differ, such as a tombstone."""
        self.counts[outcome] += 1
        values = {path: value for path, value in record.values.items() if path != "dateLastModified"}
        self._write([(record.key, unstamped(record.body), values)])

    def records(self, stamp: str) -> Iterator[Record]:
        """The changed records with their stamp; may be asked again with a later one."""
        folded = fold(stamp)
        for key, body, values in self._rows():
            values["dateLastModified"] = folded
            yield Record(key, stamped(body, stamp), values)

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    def _write(self, rows: list[Row]) -> None:
        # marshal reads a file in small pieces, so each batch is written, and read, in one with its length before it
        packed = marshal.dumps(rows)
        self._spool.write(len(packed).to_bytes(8, "big") + packed)

    def _rows(self) -> Iterator[Row]:
        self._spool.seek(0)
        while length := self._spool.read(8):
            yield from cast("Iterable[Row]", marshal.loads(self._spool.read(int.from_bytes(length, "big"))))


def _outcome(body: bytes, stored: bytes | None) -> Outcome:
    active = Resource.is_active(body)
    if stored is None:
        return "created"
    if unstamped(stored) == body:
        return "unchanged"
    if not Resource.is_active(stored):
        return "revived" if active else "updated"
    return "updated" if active else "deleted"


def totals(changes: Mapping[str, Changes]) -> int:
    """How many records all of them would write."""
    return sum(change.changed for change in changes.values())
