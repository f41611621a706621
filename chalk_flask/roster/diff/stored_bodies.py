"""Bodies of stored records for the rows of a file, which are often in the order in which the records are stored.

An export lists most records in the order of the previous export, and a large first load stores them in this order. To
read the next record of the store takes a fraction of the time of a look-up by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from backends import Snapshot

__all__ = ["StoredBodies"]

CHUNK_RECORDS = 500
"""Number of records that are read at once in the order of the store."""

MAX_AHEAD_RECORDS = 2_000
"""Number of records that were read before their rows, above which no further ones are read."""

MIN_TRIED_RECORDS = 5_000
"""Number of records after which reading in the order of the store ends if fewer than half of them were needed."""


class StoredBodies:
    """Reader of the bodies of one collection in a snapshot, by key. Not thread-safe.

    With `in_order`, it tries to read records in the order of the store, until fewer than half of them were needed.
    """

    def __init__(self, stored: Snapshot, collection: str, *, in_order: bool) -> None:
        self._stored, self._collection = stored, collection
        self._rest: Iterator[tuple[str, bytes]] = stored.in_storage_order(collection) if in_order else iter(())
        self._ahead: dict[str, bytes] = {}
        self._read_count = self._used_count = 0

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of the existing records among `keys`, by key."""
        found: dict[str, bytes] = {}
        missing = self._take(keys, found)
        while missing and self._read_on():
            missing = self._take(missing, found)
        self._used_count += len(found)
        if 2 * len(missing) > len(keys):
            self._skip()
        if missing:
            found.update(self._stored.get_many(self._collection, missing))
        return found

    def _take(self, keys: Sequence[str], found: dict[str, bytes]) -> list[str]:
        """Move the bodies of these keys to `found`. Return the keys of the others."""
        ahead, missing = self._ahead, []
        for key in keys:
            body = ahead.pop(key, None)
            if body is None:
                missing.append(key)
            else:
                found[key] = body
        return missing

    def _read_on(self) -> bool:
        """Read the next records of the store. Return False if there are none, too many wait, or few were needed."""
        if self._read_count >= MIN_TRIED_RECORDS and 2 * self._used_count < self._read_count - len(self._ahead):
            self._rest = iter(())
            self._ahead.clear()
        if len(self._ahead) > MAX_AHEAD_RECORDS:
            return False
        chunk = list(islice(self._rest, CHUNK_RECORDS))
        self._read_count += len(chunk)
        self._ahead.update(chunk)
        return bool(chunk)

    def _skip(self) -> None:
        """Forget the older half of the records that wait, because the rows have probably passed them."""
        for key in list(islice(self._ahead, len(self._ahead) // 2)):
            del self._ahead[key]
