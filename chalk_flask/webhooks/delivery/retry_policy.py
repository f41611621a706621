"""Retry policy: the times of the attempts for one delivery, and the back-off of a failing webhook."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["DAY_SECONDS", "RetryPolicy"]

HOUR_SECONDS: Final = 3_600.0
DAY_SECONDS: Final = 86_400.0
RETRY_DELAYS_SECONDS: Final = (
    5.0,
    300.0,
    *(hours * HOUR_SECONDS for hours in (0.5, 2.0, 5.0, 10.0, 14.0, 20.0, 24.0)),
)
"""Delay between one attempt and the next. The first attempt has no delay."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Schedule of retries. All durations are in seconds.

    - `delays`, `jitter`: the delay before each retry, and the fraction by which it varies at random.
    - `disable_after`: a webhook whose attempts all fail for this long is disabled.
    - `backoff_base`, `backoff_max`: pause of a webhook after a failure. It doubles with each further failure, so that
      a queue of thousands of deliveries does not hammer a receiver that is down.
    - `retry_after_max`: upper limit of Retry-After for the pause of the webhook. For the delivery itself it is a day.
    - `random_fraction`: source of numbers from 0 to 1 for the jitter.
    """

    delays: tuple[float, ...] = RETRY_DELAYS_SECONDS
    jitter: float = 0.1
    disable_after: float = 5 * DAY_SECONDS
    backoff_base: float = 0.25
    backoff_max: float = 60.0
    retry_after_max: float = 900.0
    random_fraction: Callable[[], float] = random.random

    def next_attempt_at(self, attempt_number: int, failed_at: float, retry_after: float | None = None) -> float | None:
        """Return the time of the attempt after attempt number `attempt_number` (from 1), or None if it was the last.

        Times are in seconds since the epoch.
        """
        if attempt_number > len(self.delays):
            return None
        delay = self.delays[attempt_number - 1] * (1 + self.jitter * (2 * self.random_fraction() - 1))
        return failed_at + max(delay, min(retry_after or 0.0, DAY_SECONDS))

    def backoff_until(self, failures: int, failed_at: float, retry_after: float | None = None) -> float:
        """Return the time until which a webhook pauses after this number of consecutive failures."""
        pause = min(self.backoff_base * 2.0 ** min(failures - 1, 32), self.backoff_max)
        return failed_at + max(pause, min(retry_after or 0.0, self.retry_after_max))
