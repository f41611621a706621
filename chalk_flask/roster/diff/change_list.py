"""Change list: the changes that a held package would make, for the decision of an administrator.

The import stores the list beside the held package. It is a ZIP file with blocks of changes, so that one page can be
read without the rest. It contains personal data, as the package does.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import orjson

from chalk_flask.roster.diff.change_set import ChangeSet, Outcome

__all__ = ["CHANGED_OUTCOMES", "MAX_LISTED_CHANGES", "ChangeList", "RecordChange", "write_change_list"]

CHANGED_OUTCOMES: tuple[Outcome, ...] = ("deleted", "updated", "created", "revived")
"""Outcomes that a change list contains: all except `unchanged`."""

MAX_LISTED_CHANGES = 5000
"""Maximum number of listed changes with the same file and outcome."""

WITHOUT_VALUES = frozenset({"demographics"})
"""Files whose changes are listed without values, because few administrators may see them."""

BLOCK_SIZE = 100
"""Changes in a block."""
_INDEX = "index"


class RecordChange(NamedTuple):
    """Change of one record: its id, and its stored form after the import.

    `body` is None for a deletion, and for a file in `WITHOUT_VALUES`.
    """

    key: str
    body: bytes | None


def write_change_list(file: BinaryIO, changes: Mapping[str, ChangeSet]) -> None:
    """Write the changes of each file, at most `MAX_LISTED_CHANGES` of each outcome. Raises OSError."""
    listed: dict[str, dict[Outcome, int]] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, change_set in changes.items():
            if change_set.changed_count:
                listed[name] = _write_file(archive, name, change_set)
        archive.writestr(_INDEX, orjson.dumps(listed))


def _write_file(archive: zipfile.ZipFile, name: str, changes: ChangeSet) -> dict[Outcome, int]:
    """Write the blocks of one file. Return the number of listed changes by outcome."""
    room = {outcome: min(changes.counts[outcome], MAX_LISTED_CHANGES) for outcome in CHANGED_OUTCOMES}
    writers = {outcome: _BlockWriter(archive, f"{name}/{outcome}") for outcome, count in room.items() if count}
    for outcome, key, body in changes.outcomes():
        writer = writers.get(outcome)
        if writer is not None and writer.count < room[outcome]:
            writer.add(key, None if outcome == "deleted" or name in WITHOUT_VALUES else body)
            if all(writer.count >= room[other] for other, writer in writers.items()):
                break
    for writer in writers.values():
        writer.flush()
    return {outcome: writer.count for outcome, writer in writers.items()}


class _BlockWriter:
    """Writer of the changes with one file and outcome. Call `flush` at the end."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.count = 0
        self._archive, self._folder = archive, folder
        self._block: list[tuple[str, str | None]] = []

    def add(self, key: str, body: bytes | None) -> None:
        """Add a change."""
        # As text, because escapes in the stored bytes have a meaning.
        self._block.append((key, None if body is None else body.decode()))
        self.count += 1
        if len(self._block) == BLOCK_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the changes since the last block."""
        if self._block:
            number = (self.count - 1) // BLOCK_SIZE
            self._archive.writestr(f"{self._folder}/{number}", orjson.dumps(self._block))
            self._block = []


class ChangeList:
    """Reader of a change list. `counts` is the number of listed changes by file and outcome."""

    def __init__(self, path: Path, counts: Mapping[str, Mapping[Outcome, int]]) -> None:
        self.counts = counts
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Return the list at this path, or None if there is none that can be read."""
        try:
            with zipfile.ZipFile(path) as archive:
                return cls(path, orjson.loads(archive.read(_INDEX)))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError):
            return None

    def count(self, name: str, outcome: Outcome) -> int:
        """Return the number of listed changes of a file with this outcome."""
        return self.counts.get(name, {}).get(outcome, 0)

    def page(self, name: str, outcome: Outcome, offset: int, limit: int) -> list[RecordChange]:
        """Return a part of the changes of a file with this outcome; none if the list was deleted meanwhile."""
        end = min(offset + limit, self.count(name, outcome))
        if offset >= end:
            return []
        first = offset // BLOCK_SIZE
        try:
            with zipfile.ZipFile(self._path) as archive:
                found = list(_read_blocks(archive, f"{name}/{outcome}", first, (end - 1) // BLOCK_SIZE))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError):
            return []
        return found[offset - first * BLOCK_SIZE : end - first * BLOCK_SIZE]


def _read_blocks(archive: zipfile.ZipFile, folder: str, first: int, last: int) -> Iterator[RecordChange]:
    for number in range(first, last + 1):
        for key, body in orjson.loads(archive.read(f"{folder}/{number}")):
            yield RecordChange(key, None if body is None else body.encode())
