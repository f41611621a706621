"""Worker over days of failures, with a fake clock: retries, Retry-After, disabling, and rotated secrets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.audit.events import read_events
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks.delivery.retry_policy import DAY_SECONDS, RETRY_DELAYS_SECONDS, RetryPolicy
from tests.support.clock import FakeClock
from tests.support.deliveries import (
    SECRET,
    TENANT,
    add_webhook,
    get_webhook,
    http_response,
    list_deliveries,
    put_webhook,
    queue_events,
    respond_by_number,
    running_worker,
    verify_request,
    wait_until,
)
from tests.support.receiver import respond, run_receiver

START = 1_800_000_000.0
NO_BACKOFF = RetryPolicy(jitter=0.0, backoff_base=0.0, retry_after_max=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


def has_attempts(store: Backend, count: int) -> Callable[[], bool]:
    return lambda: len(list_deliveries(store)[0].attempts) == count


def test_ten_attempts_are_sent_at_their_due_times(store: Backend, tmp_path: Path, clock: FakeClock) -> None:
    with (
        run_receiver(respond(http_response(500))) as receiver,
        running_worker(store, tmp_path, NO_BACKOFF, now=clock.time, monotonic=clock.time),
    ):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=START)
        for number, delay in enumerate(RETRY_DELAYS_SECONDS, 1):
            wait_until(has_attempts(store, number))
            assert list_deliveries(store)[0].due == clock.time() + delay
            clock.advance(delay)
        wait_until(has_attempts(store, 10))
        [delivery] = list_deliveries(store)
        assert (delivery.state, delivery.due) == ("failed", None)
        assert [attempt.time for attempt in delivery.attempts] == [
            format_epoch_seconds(START + sum(RETRY_DELAYS_SECONDS[:number])) for number in range(10)
        ]
        assert (get_webhook(store).state, get_webhook(store).failing_since) == ("active", None)
        clock.advance(days=10)
        queue_events(store, 1, due=clock.time())
        wait_until(lambda: len(list_deliveries(store)[1].attempts) == 1)
        assert get_webhook(store).state == "active", "one failure is not ten days of failures"
    assert len(receiver.requests) == 11


def test_delivery_is_not_sent_before_it_is_due(store: Backend, tmp_path: Path, clock: FakeClock) -> None:
    with (
        run_receiver(respond(http_response(500))) as receiver,
        running_worker(store, tmp_path, NO_BACKOFF, now=clock.time, monotonic=clock.time),
    ):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=START)
        wait_until(has_attempts(store, 1))
        clock.advance(4.9)
        time.sleep(0.4)
        assert len(receiver.requests) == 1
        clock.set(START + 5)
        wait_until(has_attempts(store, 2))


@pytest.mark.parametrize(("status", "delay"), [(429, 3600.0), (503, 3600.0), (500, 5.0)])
def test_retry_after_counts_for_429_and_503_only(
    status: int, delay: float, store: Backend, tmp_path: Path, clock: FakeClock
) -> None:
    with (
        run_receiver(respond(http_response(status, Retry_After="3600"))) as receiver,
        running_worker(store, tmp_path, NO_BACKOFF, now=clock.time, monotonic=clock.time),
    ):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=START)
        wait_until(has_attempts(store, 1))
    assert list_deliveries(store)[0].due == START + delay


def test_webhook_is_disabled_after_five_days_of_failures(store: Backend, tmp_path: Path, clock: FakeClock) -> None:
    with (
        run_receiver(respond(http_response(500))) as receiver,
        running_worker(store, tmp_path, NO_BACKOFF, now=clock.time, monotonic=clock.time),
    ):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=START)
        wait_until(has_attempts(store, 1))
        assert get_webhook(store).failing_since == format_epoch_seconds(START)
        clock.set(START + 5 * DAY_SECONDS - 1)
        wait_until(has_attempts(store, 2))
        assert get_webhook(store).state == "active"
        clock.set(START + 6 * DAY_SECONDS)
        wait_until(lambda: get_webhook(store).state == "disabled")
        queue_events(store, 1, due=START)
        clock.set(START + 7 * DAY_SECONDS)
        time.sleep(0.4)
        assert len(receiver.requests) == 3
    reason = get_webhook(store).reason
    assert reason == f"every attempt has failed since {format_epoch_seconds(START)}"
    [entry] = read_events(store, TENANT)
    assert (entry["event"], entry["id"], entry["reason"]) == ("webhook.disabled", "wh-1", reason)
    assert [delivery.state for delivery in list_deliveries(store)] == ["pending", "pending"]


def test_rotated_secrets_both_sign_until_the_previous_one_ends(store: Backend, tmp_path: Path) -> None:
    previous = "whsec_" + "Zm9ybWVy" * 6
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path, NO_BACKOFF):
        webhook = add_webhook(store, tmp_path, receiver.url, secrets=(SECRET, previous))
        new, old = webhook.secrets
        put_webhook(
            store, replace(webhook, secrets=(new, replace(old, valid_until=format_epoch_seconds(1_900_000_000.0))))
        )
        queue_events(store, 1)
        wait_until(has_attempts(store, 1))
        put_webhook(store, replace(webhook, secrets=(new, replace(old, valid_until=format_epoch_seconds(1000.0)))))
        queue_events(store, 1)
        wait_until(lambda: len(receiver.requests) == 2)
    during, after = receiver.requests
    assert verify_request(during) == verify_request(during, previous)
    assert len(during[1]["webhook-signature"].split()) == 2
    assert len(after[1]["webhook-signature"].split()) == 1
    assert verify_request(after)


def test_replayed_delivery_gets_all_its_attempts_again(store: Backend, tmp_path: Path, clock: FakeClock) -> None:
    one_retry = replace(NO_BACKOFF, delays=(1.0,))
    handler = respond_by_number(lambda number: http_response(200 if number == 4 else 500))
    with (
        run_receiver(handler) as receiver,
        running_worker(store, tmp_path, one_retry, now=clock.time, monotonic=clock.time),
    ):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1, due=START)
        wait_until(has_attempts(store, 1))
        clock.set(START + 1)
        wait_until(lambda: list_deliveries(store)[0].state == "failed")
        with store.write(TENANT) as transaction:
            transaction.put(DELIVERIES, [list_deliveries(store)[0].requeued(START + 1).to_record()])
        wait_until(has_attempts(store, 3))
        clock.set(START + 2)
        wait_until(lambda: list_deliveries(store)[0].state == "delivered")
    assert len({(headers["webhook-id"], body) for _, headers, body in receiver.requests}) == 1
