"""Key sets of issuers that the serving processes share, so that all of them accept the same tokens.

Without this, each process would reject the first token with a new key, and fetch the key set for itself.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from backends import SharedValues
from chalk_flask.shared_state import SharedState

__all__ = ["PublishedKeySet", "SharedKeySets"]

SETS, FETCHES, LATEST = "jwks", "jwks fetches", "latest"
KEPT_SECONDS: Final = 30 * 86400.0
"""Time for which a key set is kept. An expired one is used while its issuer cannot be reached."""
MAX_FETCH_SECONDS: Final = 15.0
"""Time after which a fetch of another process counts as abandoned, because that process was killed."""


class PublishedKeySet(NamedTuple):
    """Key set as it was fetched. All times are in epoch seconds; `retry_at` is that of the next fetch for a new key."""

    body: bytes
    fetched: float
    expires: float
    retry_at: float


class SharedKeySets:
    """Key sets in the shared state. Thread-safe. Without a file, this process shares nothing."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def latest_fetch(self) -> float:
        """Return the time at which a key set was fetched last, in epoch seconds; 0 if there is none."""
        return self._state.attempt(_latest_fetch, lambda: 0.0)

    def find(self, key: str) -> PublishedKeySet | None:
        """Return the latest key set of an issuer."""
        found = self._state.attempt(lambda state: state.get(SETS, key), lambda: None)
        return None if found is None else PublishedKeySet(found[0].encode(), *found[1:])

    def begin_fetch(self, key: str) -> bool:
        """Claim the fetch of this key set, and return True. Return False if another process fetches it now.

        Call `end_fetch` after True.
        """

        def begin(state: SharedValues) -> bool:
            now = time.time()
            if now - MAX_FETCH_SECONDS < (state.get(FETCHES, key) or 0.0) <= now:
                return False
            state.put(FETCHES, key, now, now + MAX_FETCH_SECONDS)
            return True

        return self._state.attempt(begin, lambda: True)

    def end_fetch(self, key: str) -> None:
        """Allow other processes to fetch the key set."""
        self._state.attempt(lambda state: state.delete(FETCHES, key), lambda: None)

    def publish(self, key: str, body: bytes, expires: float, retry_at: float) -> float:
        """Store a key set for all processes, and return the time of its fetch, which is later than that of all others.

        `body` is JSON, and so UTF-8.
        """

        def store(state: SharedValues) -> float:
            now = time.time()
            fetched = max(now, _latest_fetch(state) + 0.001)
            state.put(SETS, key, [body.decode(), fetched, expires, retry_at], now + KEPT_SECONDS)
            state.put(FETCHES, LATEST, fetched, now + KEPT_SECONDS)
            return fetched

        return self._state.attempt(store, time.time)


def _latest_fetch(state: SharedValues) -> float:
    found: float | None = state.get(FETCHES, LATEST)
    return found or 0.0
