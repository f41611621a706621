"""Waits of the worker: they do not depend on changes of the system time, nor on failures of other deliveries."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.outbox import Delivery
from chalk_flask.webhooks.delivery.queue import latest_time
from chalk_flask.webhooks.delivery.retry_policy import DAY_SECONDS, RetryPolicy
from tests.support.clock import FakeClock
from tests.support.deliveries import (
    TENANT,
    add_webhook,
    event_ids,
    http_response,
    list_deliveries,
    queue_events,
    respond_by_number,
    running_worker,
    wait_until,
)
from tests.support.receiver import respond, run_receiver

RETRY_SOON = RetryPolicy(delays=(1.0, 1.0), jitter=0.0, backoff_base=0.1, backoff_max=0.1)


def has_attempts(store: Backend, count: int) -> bool:
    return len(list_deliveries(store)[0].attempts) >= count


def attempt_seconds(delivery: Delivery) -> list[float]:
    """Return the times of the attempts, in seconds since the epoch."""
    return [datetime.fromisoformat(attempt.time).timestamp() for attempt in delivery.attempts]


def test_clock_set_back_delays_neither_retries_nor_new_events(store: Backend, tmp_path: Path) -> None:
    system = FakeClock(time.time())
    handler = respond_by_number(lambda number: http_response(200 if number > 1 else 500))
    with run_receiver(handler) as receiver, running_worker(store, tmp_path, RETRY_SOON, now=system.time):
        add_webhook(store, tmp_path, receiver.url)
        [failed] = queue_events(store, 1, due=system.time())
        wait_until(lambda: list_deliveries(store)[0].attempts)
        system.advance(-DAY_SECONDS)
        [new] = queue_events(store, 1, due=system.time())
        wait_until(lambda: all(delivery.state == "delivered" for delivery in list_deliveries(store)))
        assert sorted(event_ids(receiver)) == sorted([failed, failed, new])


def test_clock_set_back_before_a_restart_does_not_delay_retries(store: Backend, tmp_path: Path) -> None:
    system = FakeClock(time.time())
    with run_receiver(respond(http_response(500))) as receiver:
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=system.time())
        for attempts in (1, 2):
            with running_worker(store, tmp_path, RETRY_SOON, now=system.time):
                wait_until(partial(has_attempts, store, attempts))
                system.advance(-DAY_SECONDS)
        with running_worker(store, tmp_path, RETRY_SOON, now=system.time):
            wait_until(lambda: list_deliveries(store)[0].state == "failed")
    assert len(receiver.requests) == 3


def test_clock_set_forward_sends_what_is_due_by_then(store: Backend, tmp_path: Path) -> None:
    """A machine without a battery starts in 1970 until it learns the time."""
    system = FakeClock(1000.0)
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path, now=system.time):
        add_webhook(store, tmp_path, receiver.url)
        system.set(time.time())
        queue_events(store, 1, due=system.time())
        wait_until(lambda: len(receiver.requests) == 1)


@pytest.mark.slow
def test_first_retry_of_every_event_comes_at_its_time(store: Backend, tmp_path: Path) -> None:
    policy = RetryPolicy(delays=(1.0, 600.0), jitter=0.0, backoff_base=0.05, backoff_max=600.0)
    with run_receiver(respond(http_response(500))) as receiver, running_worker(store, tmp_path, policy):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 5)
        wait_until(lambda: all(len(delivery.attempts) == 2 for delivery in list_deliveries(store)))
    for delivery in list_deliveries(store):
        first, second = attempt_seconds(delivery)
        assert 0.9 < second - first < 15, "the back-off of the webhook delayed a first retry"


def test_retry_after_delays_the_first_retries_of_other_events(store: Backend, tmp_path: Path) -> None:
    policy = RetryPolicy(delays=(0.5,), jitter=0.0, backoff_base=0.01, backoff_max=0.01)
    busy = http_response(503, Retry_After="600")
    handler = respond_by_number(lambda number: http_response(500) if number == 1 else busy)
    with run_receiver(handler) as receiver, running_worker(store, tmp_path, policy):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 2)
        wait_until(lambda: len(receiver.requests) == 2)
        time.sleep(1.0)
        queue_events(store, 1)  # the worker looks for due deliveries again
        time.sleep(0.5)
        assert len(receiver.requests) == 2


def test_first_retry_that_succeeds_ends_the_back_off(store: Backend, tmp_path: Path) -> None:
    policy = RetryPolicy(delays=(0.3,), jitter=0.0, backoff_base=600.0, backoff_max=600.0)
    handler = respond_by_number(lambda number: http_response(200 if number > 1 else 500))
    with run_receiver(handler) as receiver, running_worker(store, tmp_path, policy):
        add_webhook(store, tmp_path, receiver.url)
        first, second = queue_events(store, 2)
        wait_until(lambda: all(delivery.state == "delivered" for delivery in list_deliveries(store)))
        assert event_ids(receiver) == [first, first, second]


def test_latest_time_is_that_of_any_pending_delivery(store: Backend) -> None:
    now = 1_800_000_000.0
    queue_events(store, 1, due=now + 500)
    queue_events(store, 1, due=now + 100)
    queue_events(store, 1, due=now - 900)
    with store.read(TENANT) as snapshot:
        assert latest_time(snapshot, now) == now + 500
        assert latest_time(snapshot, now + 900) == now + 900
