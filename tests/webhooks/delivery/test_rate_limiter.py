"""Rate limit of attempts."""

from __future__ import annotations

import threading
import time

from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter


def test_rate_applies_to_all_threads_together() -> None:
    limiter, started = RateLimiter(rate=200), time.monotonic()

    def wait_often() -> None:
        for _ in range(10):
            limiter.wait()

    threads = [threading.Thread(target=wait_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 39 / 200 - 0.03


def test_calls_below_the_rate_do_not_wait() -> None:
    limiter, durations = RateLimiter(rate=5), []
    for _ in range(5):
        started = time.monotonic()
        limiter.wait()
        durations.append(time.monotonic() - started)
        time.sleep(0.25)
    assert sorted(durations)[2] < 0.15  # the median, because a loaded machine delays single calls
