"""Nonces of signed requests: each request is let in once (RFC 5849, section 3.3; digest 9.2)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

__all__ = ["MAX_AGE_SECONDS", "MAX_AHEAD_SECONDS", "NonceCache"]

MAX_AGE_SECONDS = 600
"""Seconds that a timestamp may lie in the past (clients of 1.1 ask for ten minutes at least)."""
MAX_AHEAD_SECONDS = 300
"""Seconds that it may lie in the future."""


class NonceCache:
    """The (client, timestamp, nonce) of the requests that were let in, for as long as their timestamps are valid.

    Of a client that signs more than `most` in that time the oldest are forgotten, and whatever is as old is refused.
    They are known to this process, and until it ends. Safe for use by many threads at once.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._clients: dict[str, _ClientNonces] = {}
        self._due = 0

    def check_and_remember(self, client: str, timestamp: int, nonce: str, now: int) -> bool:
        """Whether the timestamp, in seconds as `now` is, is within PAST and FUTURE, and the nonce new; it then is not.

        The ends of the window are part of it.
        """
        if not now - MAX_AGE_SECONDS <= timestamp <= now + MAX_AHEAD_SECONDS:
            return False
        with self._lock:
            if now >= self._due:
                self._sweep(now)
            seen = self._clients.setdefault(client, _ClientNonces())
            # Python's hash of a text is keyed anew in every process and takes a fraction of the room.
            return seen.take(timestamp, hash(nonce), self._most)

    def _sweep(self, now: int) -> None:
        self._due = now + 60
        for client, seen in list(self._clients.items()):
            seen.forget(now - MAX_AGE_SECONDS)
            if not seen.seconds and seen.floor < now - MAX_AGE_SECONDS:
                del self._clients[client]


@dataclass(slots=True)
class _ClientNonces:
    """The nonces of one client by second, and the second up to which they are forgotten."""

    seconds: dict[int, set[int]] = field(default_factory=dict)
    count: int = 0
    floor: int = -1

    def take(self, timestamp: int, nonce: int, most: int) -> bool:
        if timestamp <= self.floor:
            return False
        nonces = self.seconds.setdefault(timestamp, set())
        if nonce in nonces:
            return False
        nonces.add(nonce)
        self.count += 1
        if self.count > most:
            self.forget(min(self.seconds) + 1)
        return True

    def forget(self, before: int) -> None:
        self.floor = max(self.floor, before - 1)
        for second in [each for each in self.seconds if each < before]:
            self.count -= len(self.seconds.pop(second))
