"""Number of used ids in each scope. A process adds its own ids, and counts those of all at intervals."""

from __future__ import annotations

from typing import Final

from backends import SharedValues

__all__ = ["UsedIdCounter"]

RECOUNT_SECONDS: Final = 10.0


class UsedIdCounter:
    """Counter of the ids that a process adds to scopes with a maximum number of ids. Not thread-safe.

    Ids of other processes count once they are recounted, after at most RECOUNT_SECONDS. At the maximum, every call
    recounts.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._counts: dict[str, tuple[float, int]] = {}

    def is_full(self, state: SharedValues, scope: str, now: float) -> bool:
        """Return True if the scope has the maximum number of ids that have not expired. Otherwise count one more."""
        counted, count = self._counts.get(scope, (now - RECOUNT_SECONDS, 0))
        if count >= self._max_ids or not counted <= now < counted + RECOUNT_SECONDS:
            state.delete_expired_ids(scope, now)
            counted, count = now, state.count_used(scope)
        is_full = count >= self._max_ids
        self._counts[scope] = (counted, count if is_full else count + 1)
        return is_full
