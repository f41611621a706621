"""How fast deliveries go out, all endpoints together: those who read from the same process should not notice."""

from __future__ import annotations

import threading
import time

__all__ = ["RATE", "Pace"]

RATE = 500.0
"""Attempts a second that are begun at the most. One takes less than a millisecond of Python, in which nobody reads."""


class Pace:
    """Turns that come at this rate. Safe for many threads at once."""

    def __init__(self, rate: float = RATE) -> None:
        self._gap = 1 / rate
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is one's turn: at once, unless others were just before."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self._gap
        if turn > now:
            time.sleep(turn - now)
