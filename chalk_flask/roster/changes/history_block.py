"""Stored form of the change history: blocks of changes, each of one collection and one transaction.

A block holds the changes with consecutive sequence numbers. Each change contains the number of the record's previous
one, so the changes of a record form a chain that begins at its present number. Readers need no index of the records.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from backends import KEY, Compare, Query, Record, Snapshot

__all__ = ["BLOCK_SIZE", "COLLECTION", "BlockKind", "ChangeCause", "HistoryBlock", "StoredChange", "find_block"]

COLLECTION = "history"
BLOCK_SIZE = 100
"""Maximum number of changes in a block that stores them one by one."""

BlockKind: TypeAlias = Literal["changed", "created", "restamped"]
"""Content of a block. `created`: new records only, of which it stores nothing. `restamped`: later timestamps only."""

_FASTEST = 1
"""Level of compression. Most of the size is saved already, because states of a record are similar."""


class ChangeCause(NamedTuple):
    """Cause of the changes of a transaction: the id of an import run, or the credential of a grade tool."""

    run: str = ""
    credential: str = ""


class StoredChange(NamedTuple):
    """Change of one record: its id, the number of its previous change, and its stored bodies before and after.

    Both bodies are empty for a new record and for a restamp. The id is None after the record was purged.
    """

    key: str | None
    previous: int | None = None
    before: bytes = b""
    after: bytes = b""


ERASED = StoredChange(None)


@dataclass(frozen=True, slots=True)
class HistoryBlock:
    """Changes of a collection with the sequence numbers from `first` to `last`. `time` is their timestamp.

    `changes` are in the order of their numbers; they are empty for the kind `created`.
    """

    first: int
    last: int
    collection: str
    time: str
    cause: ChangeCause
    kind: BlockKind
    changes: Sequence[StoredChange] = field(default=(), repr=False)

    def to_record(self) -> Record:
        """Return the record of COLLECTION. Its key is the last number, so that a search finds the block of a number."""
        data = {
            "first": self.first,
            "last": self.last,
            "collection": self.collection,
            "time": self.time,
            "run": self.cause.run,
            "credential": self.cause.credential,
            "kind": self.kind,
            "changes": _pack(self.changes) if self.changes else "",
        }
        return Record(block_key(self.last), orjson.dumps(data))

    @classmethod
    def from_body(cls, body: bytes) -> HistoryBlock:
        """Return the block of a stored body."""
        data: Mapping[str, Any] = orjson.loads(body)
        return cls(
            data["first"],
            data["last"],
            data["collection"],
            data["time"],
            ChangeCause(data["run"], data["credential"]),
            data["kind"],
            _unpack(data["changes"]) if data["changes"] else (),
        )

    def change(self, number: int) -> StoredChange:
        """Return the change with a number of the block."""
        return self.changes[number - self.first] if self.changes else StoredChange("")

    def without(self, numbers: frozenset[int]) -> HistoryBlock | None:
        """Return the block without the changes of these numbers, or None if it has no others."""
        changes = [ERASED if number in numbers else change for number, change in enumerate(self.changes, self.first)]
        return replace(self, changes=changes) if any(change.key is not None for change in changes) else None


def block_key(number: int) -> str:
    """Return the key of the block whose last number this is."""
    return f"{number:020}"


def find_block(snapshot: Snapshot, collection: str, number: int) -> HistoryBlock | None:
    """Return the block of a collection that contains a number, or None."""
    query = Query(COLLECTION, Compare(KEY, ">=", block_key(number)), limit=1, max_total=1)
    body = snapshot.find(query).body()
    block = HistoryBlock.from_body(body) if body else None
    return block if block and block.first <= number and block.collection == collection else None


def _pack(changes: Sequence[StoredChange]) -> str:
    """Return the changes as text: a line with ids and numbers, then the bodies, compressed.

    Bodies stay bytes, because escapes in them have a meaning. They contain no line break.
    """
    head = orjson.dumps([[change.key, change.previous] for change in changes])
    bodies = [body for change in changes for body in change[2:]]
    return binascii.b2a_base64(zlib.compress(b"\n".join([head, *bodies]), _FASTEST), newline=False).decode()


def _unpack(text: str) -> list[StoredChange]:
    head, *bodies = zlib.decompress(binascii.a2b_base64(text)).split(b"\n")
    entries = zip(orjson.loads(head), bodies[::2], bodies[1::2], strict=True)
    return [StoredChange(key, previous, before, after) for (key, previous), before, after in entries]
