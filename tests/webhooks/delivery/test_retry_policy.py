"""Retry policy: delays, jitter, Retry-After, and the back-off of a webhook."""

from __future__ import annotations

import pytest

from chalk_flask.webhooks.delivery.retry_policy import DAY_SECONDS, RETRY_DELAYS_SECONDS, RetryPolicy

HOUR = 3600.0


def test_delivery_gets_ten_attempts_with_these_delays() -> None:
    policy, time, delays = RetryPolicy(random_fraction=lambda: 0.5), 0.0, []
    for number in range(1, 10):
        due = policy.next_attempt_at(number, time)
        assert due is not None
        delays.append(due - time)
        time = due
    assert delays == [5, 300, 0.5 * HOUR, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
    assert policy.next_attempt_at(10, time) is None


@pytest.mark.parametrize("number", [1, 9])
def test_jitter_varies_a_delay_by_a_tenth(number: int) -> None:
    fractions = iter([0.0, 1.0])
    policy = RetryPolicy(random_fraction=lambda: next(fractions))
    delay = RETRY_DELAYS_SECONDS[number - 1]
    extremes = [policy.next_attempt_at(number, 0), policy.next_attempt_at(number, 0)]
    assert extremes == pytest.approx([0.9 * delay, 1.1 * delay])
    random_times = [RetryPolicy().next_attempt_at(number, 1000.0) for _ in range(200)]
    assert len(set(random_times)) > 100
    assert all(due is not None and 0.9 * delay <= due - 1000 <= 1.1 * delay for due in random_times)


def test_retry_after_applies_if_later_and_at_most_a_day() -> None:
    policy = RetryPolicy(jitter=0.0)
    assert policy.next_attempt_at(1, 0, 60) == 60
    assert policy.next_attempt_at(2, 0, 60) == 300
    assert policy.next_attempt_at(1, 0, 90 * DAY_SECONDS) == DAY_SECONDS


def test_backoff_doubles_up_to_a_minute() -> None:
    policy = RetryPolicy()
    assert [policy.backoff_until(failures, 0) for failures in (1, 2, 3, 9, 10, 10_000)] == [0.25, 0.5, 1, 60, 60, 60]
    assert policy.backoff_until(1, 0, 30) == 30
    assert policy.backoff_until(1, 0, DAY_SECONDS) == 900
