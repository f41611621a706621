"""Compact set of the ids of one file."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import compress, islice
from operator import eq

__all__ = ["IdSet"]


class IdSet:
    """Set of the ids of one file: as text if `exact`, for files that others refer to, else as 64-bit hashes.

    A hash takes eight bytes per id. Membership by hash can be wrong: the import may overlook that a record is missing.
    The probability is about 1 in 10^13 per million rows. The next import then detects it, because Python uses another
    hash seed in each process. Duplicates are never decided by hash alone, see `repeated_rows`.
    """

    def __init__(self, *, exact: bool) -> None:
        self.exact: set[str] | None = set() if exact else None
        """The ids as text; None for a set of hashes."""
        self._hashes: array[int] = array("q")

    def add(self, key: str) -> bool:
        """Add an id. Return False if it is a duplicate; a set of hashes always returns True."""
        if self.exact is None:
            self._hashes.append(hash(key))
            return True
        size_before = len(self.exact)
        self.exact.add(key)
        return len(self.exact) > size_before

    def __contains__(self, key: str) -> bool:
        """Return True if the set has the id. A set of hashes must be sorted first."""
        if self.exact is not None:
            return key in self.exact
        value = hash(key)
        index = bisect_left(self._hashes, value)
        return index < len(self._hashes) and self._hashes[index] == value

    def sort(self) -> set[int]:
        """Sort the hashes, so that `in` works, and return those that occur more than once.

        Call it once, after the last `add`. A set of text has no hashes and returns an empty set.
        """
        hashes = sorted(self._hashes)
        self._hashes = array("q", hashes)
        return set(compress(hashes, map(eq, hashes, islice(hashes, 1, None))))

    @staticmethod
    def repeated_rows(rows: Iterable[tuple[int, str]], hashes: set[int]) -> Iterator[tuple[int, str]]:
        """Yield the (row number, id) pairs whose id has one of the hashes and occurred in an earlier row."""
        previous: set[str] = set()
        for number, key in rows:
            if hash(key) in hashes:
                if key in previous:
                    yield number, key
                previous.add(key)
