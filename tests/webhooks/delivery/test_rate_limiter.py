"""How fast attempts are begun."""

from __future__ import annotations

import threading
import time

from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter


def test_all_threads_together_keep_the_pace() -> None:
    pace, began = RateLimiter(rate=200), time.monotonic()

    def take() -> None:
        for _ in range(25):
            pace.wait()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert time.monotonic() - began >= 99 / 200 - 0.03


def test_whoever_is_alone_does_not_wait() -> None:
    pace, took = RateLimiter(rate=20), []
    for _ in range(3):
        began = time.monotonic()
        pace.wait()
        took.append(time.monotonic() - began)
        time.sleep(0.06)
    assert max(took) < 0.03
