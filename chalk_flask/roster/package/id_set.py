"""Which ids a package holds, remembered in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

__all__ = ["IdSet"]


class IdSet:
    """The ids of one file. `exact` keeps them themselves, for files that others refer to; else eight bytes an id.

    The short form answers by 64-bit hashes: a record that is missing from a package could go unnoticed with a chance
    of some 1 in 10^13 for a million rows, and only until the next import, since hashes are seeded anew each time.
    Duplicates are never decided by a hash alone: the ids behind equal hashes are read again.
    """

    def __init__(self, *, exact: bool) -> None:
        self.exact: set[str] | None = set() if exact else None
        """The ids themselves, where they are kept."""
        self._hashes: array[int] = array("q")

    def add(self, key: str) -> bool:
        """Remember an id; False when it is known to have come before (the short form never knows: see `repeated`)."""
        if self.exact is None:
            self._hashes.append(hash(key))
            return True
        before = len(self.exact)
        self.exact.add(key)
        return len(self.exact) > before

    def __contains__(self, key: str) -> bool:
        if self.exact is not None:
            return key in self.exact
        value = hash(key)
        at = bisect_left(self._hashes, value)
        return at < len(self._hashes) and self._hashes[at] == value

    def repeated(self) -> set[int]:
        """Called once after the last `add`: the hashes that came more than once."""
        self._hashes = array("q", sorted(self._hashes))
        return {one for one, other in pairwise(self._hashes) if one == other}

    @staticmethod
    def among(keys: Iterable[tuple[int, str]], hashes: set[int]) -> Iterable[tuple[int, str]]:
        """Of (row, id) pairs, those whose id has one of the hashes and came before."""
        seen: set[str] = set()
        for row, key in keys:
            if hash(key) in hashes:
                if key in seen:
                    yield row, key
                seen.add(key)
