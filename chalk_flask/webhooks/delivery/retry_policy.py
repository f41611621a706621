"""When a delivery is tried again, and for how long an endpoint may fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["DAY", "DELAYS", "RetryPolicy"]

DAY: Final = 86_400.0
HOUR: Final = 3_600.0
DELAYS: Final = (5.0, 300.0, 0.5 * HOUR, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Seconds between one attempt and the next; the first is made at once."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """All spans of time in seconds. `jitter` is the part by which a delay may be longer or shorter, `chance` a number
    from 0 to 1.

    An endpoint that fails for `patience` is disabled. After a failure it is left alone for `rest`, twice as long each
    time up to `longest_rest`, so that a queue of thousands does not beat on one that is down. What it answers with
    Retry-After counts for a delivery up to a day, for the rest of its queue up to `longest_wait`.
    """

    delays: tuple[float, ...] = DELAYS
    jitter: float = 0.1
    disable_after: float = 5 * DAY
    backoff_base: float = 0.25
    backoff_max: float = 60.0
    retry_after_max: float = 900.0
    chance: Callable[[], float] = random.random

    def next_attempt_at(self, tries: int, moment: float, retry_after: float | None = None) -> float | None:
        """When a delivery is to be tried again whose attempt number `tries` failed just now; None: never."""
        if tries > len(self.delays):
            return None
        delay = self.delays[tries - 1] * (1 + self.jitter * (2 * self.chance() - 1))
        return moment + max(delay, min(retry_after or 0.0, DAY))

    def backoff_until(self, failures: int, moment: float, retry_after: float | None = None) -> float:
        """When an endpoint may be tried again that failed just now, so many times in a row."""
        pause = min(self.backoff_base * 2.0 ** min(failures - 1, 32), self.backoff_max)
        return moment + max(pause, min(retry_after or 0.0, self.retry_after_max))
