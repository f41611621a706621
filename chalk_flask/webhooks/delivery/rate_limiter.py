"""How fast deliveries go out, all endpoints together: those who read from the same process should not notice."""

from __future__ import annotations

import threading
import time

__all__ = ["RATE", "RateLimiter"]

RATE = 370.0
"""Attempts a second that are begun at the most. One takes half a millisecond of Python, in which nobody reads."""


LATE = 0.02
"""Seconds of turns that nobody took and that may be made up for: an attempt may have had to wait for its answer."""


class RateLimiter:
    """Turns that come at this rate. Safe for many threads at once."""

    def __init__(self, rate: float = RATE) -> None:
        self._gap = 1 / rate
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is one's turn: at once, unless others were just before."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now - LATE)
            self._next = turn + self._gap
        if turn > now:
            time.sleep(turn - now)
