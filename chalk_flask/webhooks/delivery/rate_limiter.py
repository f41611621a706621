"""Rate limit of deliveries over all webhooks, so that API requests in the same process stay fast."""

from __future__ import annotations

import threading
import time
from typing import Final

__all__ = ["RateLimiter"]

MAX_ATTEMPTS_PER_SECOND: Final = 370.0
"""API requests of the process compete with attempts for the interpreter lock. `bench --only webhooks` measures both."""
MAX_CATCH_UP_SECONDS: Final = 0.02
"""Unused time that later attempts may catch up on: an attempt may have waited for its response."""


class RateLimiter:
    """Limit on the number of calls per second. Thread-safe."""

    def __init__(self, rate: float = MAX_ATTEMPTS_PER_SECOND) -> None:
        self._interval = 1 / rate
        self._lock = threading.Lock()
        self._next_slot = 0.0

    def wait(self) -> None:
        """Block until the caller may proceed; return at once while the rate is below the limit."""
        with self._lock:
            now = time.monotonic()
            slot = max(self._next_slot, now - MAX_CATCH_UP_SECONDS)
            self._next_slot = slot + self._interval
        if slot > now:
            time.sleep(slot - now)
