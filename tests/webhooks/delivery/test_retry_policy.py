"""When a delivery is tried again: the whole schedule, its jitter, and what Retry-After adds."""

from __future__ import annotations

import pytest

from chalk_flask.webhooks.delivery.retry_policy import DAY, DELAYS, RetryPolicy

HOUR = 3600.0


def test_ten_attempts_are_made_with_these_delays_between_them() -> None:
    schedule, moment, told = RetryPolicy(chance=lambda: 0.5), 0.0, []
    for tries in range(1, 10):
        due = schedule.next_attempt_at(tries, moment)
        assert due is not None
        told.append(due - moment)
        moment = due
    assert told == [5, 300, 0.5 * HOUR, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
    assert schedule.next_attempt_at(10, moment) is None


@pytest.mark.parametrize("tries", range(1, 10))
def test_each_delay_is_up_to_a_tenth_longer_or_shorter(tries: int) -> None:
    chances = iter([0.0, 1.0])
    schedule = RetryPolicy(chance=lambda: next(chances))
    delay = DELAYS[tries - 1]
    assert [schedule.next_attempt_at(tries, 0), schedule.next_attempt_at(tries, 0)] == pytest.approx(
        [0.9 * delay, 1.1 * delay]
    )
    drawn = [RetryPolicy().next_attempt_at(tries, 1000.0) for _ in range(200)]
    assert len(set(drawn)) > 100
    assert all(due is not None and 0.9 * delay <= due - 1000 <= 1.1 * delay for due in drawn)


def test_retry_after_counts_when_it_is_later_and_up_to_a_day() -> None:
    schedule = RetryPolicy(jitter=0.0)
    assert schedule.next_attempt_at(1, 0, 60) == 60
    assert schedule.next_attempt_at(2, 0, 60) == 300
    assert schedule.next_attempt_at(1, 0, 90 * DAY) == DAY


def test_an_endpoint_rests_longer_after_each_failure_in_a_row_up_to_a_minute() -> None:
    schedule = RetryPolicy()
    assert [schedule.backoff_until(n, 0) for n in (1, 2, 3, 9, 10, 10_000)] == [0.25, 0.5, 1, 60, 60, 60]
    assert schedule.backoff_until(1, 0, 30) == 30
    assert schedule.backoff_until(1, 0, DAY) == 900
