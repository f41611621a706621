"""Cache of the nonces of signed requests, so that a request is accepted once.

See RFC 5849, section 3.3, and docs/conformance, O-03.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

__all__ = ["NonceCache"]

MAX_AGE_SECONDS = 600
"""Maximum age of a timestamp; clients of OneRoster 1.1 require at least ten minutes."""
MAX_AHEAD_SECONDS = 300
"""Maximum distance of a timestamp in the future."""
DEFAULT_MAX_NONCES = 100_000
CLEANUP_INTERVAL_SECONDS = 60


class NonceCache:
    """Cache of the nonces of accepted requests, while their timestamps are valid. Thread-safe.

    It lasts as long as the process. If a client exceeds `max_nonces`, its oldest nonces are dropped, and requests with
    timestamps as old as theirs are rejected.
    """

    def __init__(self, max_nonces: int = DEFAULT_MAX_NONCES) -> None:
        self._max_nonces = max_nonces
        self._lock = threading.Lock()
        self._clients: dict[str, _ClientNonces] = {}
        self._next_cleanup = 0

    def check_and_remember(self, client_id: str, timestamp: int, nonce: str, now: int) -> bool:
        """Store the nonce of a request. Return True if its timestamp is valid and its nonce is new.

        Timestamps from MAX_AGE_SECONDS before `now` to MAX_AHEAD_SECONDS after it are valid. All are epoch seconds.
        """
        if not now - MAX_AGE_SECONDS <= timestamp <= now + MAX_AHEAD_SECONDS:
            return False
        with self._lock:
            if now >= self._next_cleanup:
                self._remove_expired(now)
            nonces = self._clients.setdefault(client_id, _ClientNonces())
            # Python's hash of a text is keyed per process, so it is safe here, and it takes a fraction of the memory.
            return nonces.check_and_remember(timestamp, hash(nonce), self._max_nonces)

    def _remove_expired(self, now: int) -> None:
        self._next_cleanup = now + CLEANUP_INTERVAL_SECONDS
        for client_id, nonces in list(self._clients.items()):
            nonces.remove_before(now - MAX_AGE_SECONDS)
            if not nonces.by_second and nonces.last_removed < now - MAX_AGE_SECONDS:
                del self._clients[client_id]


@dataclass(slots=True)
class _ClientNonces:
    """Nonces of one client by second, and the last second whose nonces were removed."""

    by_second: dict[int, set[int]] = field(default_factory=dict)
    count: int = 0
    last_removed: int = -1

    def check_and_remember(self, timestamp: int, nonce: int, max_nonces: int) -> bool:
        if timestamp <= self.last_removed:
            return False
        nonces = self.by_second.setdefault(timestamp, set())
        if nonce in nonces:
            return False
        nonces.add(nonce)
        self.count += 1
        if self.count > max_nonces:
            self.remove_before(min(self.by_second) + 1)
        return True

    def remove_before(self, timestamp: int) -> None:
        self.last_removed = max(self.last_removed, timestamp - 1)
        for second in [second for second in self.by_second if second < timestamp]:
            self.count -= len(self.by_second.pop(second))
