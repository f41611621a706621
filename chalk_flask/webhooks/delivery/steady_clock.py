"""Clock for waits: seconds since the epoch that never go back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["SteadyClock"]


class SteadyClock:
    """Clock that follows the system clock forward and the monotonic clock otherwise. Thread-safe.

    If the system clock is set back, waits continue as if it were not. If it is set forward, waits end early.
    """

    def __init__(
        self, system: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._system, self._monotonic = system, monotonic
        self._lock = threading.Lock()
        self._offset = system() - monotonic()

    def now(self) -> float:
        """Return the time in seconds since the epoch, at least as late as that of any earlier call."""
        return self._advance_to(self._system())

    def advance_to(self, time: float) -> None:
        """Continue from this time (seconds since the epoch) if it is later than the present one."""
        self._advance_to(time)

    def _advance_to(self, time: float) -> float:
        with self._lock:
            monotonic = self._monotonic()
            self._offset = max(self._offset, time - monotonic)
            return self._offset + monotonic
