"""Days of failing, on a clock that the test turns: attempts, Retry-After, the end of patience, what is removed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.audit.events import read_events
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.delivery.retention import purge
from chalk_flask.webhooks.delivery.retry_policy import DELAYS, RetryPolicy
from tests.support.deliveries import (
    SECRET,
    TENANT,
    deliveries,
    keep,
    replying,
    status,
    subscribed,
    tell,
    until,
    verified,
    webhook,
    working,
)
from tests.support.receiver import answering, receiving

DAY = 86_400.0
START = 1_800_000_000.0
SLOW = RetryPolicy(jitter=0.0, backoff_base=0.0, retry_after_max=0.0)


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@dataclass
class Clock:
    """Seconds since the epoch, as the test says."""

    now: float = START
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> float:
        with self.lock:
            return self.now

    def turn(self, moment: float) -> None:
        with self.lock:
            self.now = moment


def tried(store: Backend, times: int) -> Callable[[], bool]:
    return lambda: len(deliveries(store)[0].attempts) == times


def test_ten_attempts_are_made_when_they_are_due_and_none_after(store: Backend, tmp_path: Path) -> None:
    clock = Clock()
    with receiving(answering(status(500))) as receiver, working(store, tmp_path, SLOW, now=clock):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1, due=clock.now)
        moment = START
        for number, delay in enumerate(DELAYS, 1):
            until(tried(store, number))
            assert deliveries(store)[0].due == moment + delay
            clock.turn(moment + delay - 0.001)
            moment += delay
            clock.turn(moment)
        until(tried(store, 10))
        [delivery] = deliveries(store)
        assert (delivery.state, delivery.due) == ("failed", None)
        assert [each.time for each in delivery.attempts] == [
            format_instant(START + sum(DELAYS[:number])) for number in range(10)
        ]
        assert (webhook(store).state, webhook(store).failing_since) == ("active", None), "nothing fails any more"
        clock.turn(moment + 10 * DAY)
        tell(store, 1, due=clock.now)
        until(lambda: len(deliveries(store)[1].attempts) == 1)
        assert webhook(store).state == "active", "one failure is not ten days of failing"
    assert len(receiver.requests) == 11


def test_nothing_is_sent_before_it_is_due(store: Backend, tmp_path: Path) -> None:
    clock = Clock()
    with receiving(answering()) as receiver, working(store, tmp_path, SLOW, now=clock):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1, due=START + 5)
        clock.turn(START + 4.9)
        threading.Event().wait(0.4)
        assert receiver.connections == 0
        clock.turn(START + 5)
        until(tried(store, 1))


@pytest.mark.parametrize(("code", "due"), [(429, 3600.0), (503, 3600.0), (500, 5.0)])
def test_retry_after_is_heeded_where_the_standard_gives_it_a_meaning(
    code: int, due: float, store: Backend, tmp_path: Path
) -> None:
    clock = Clock()
    with (
        receiving(answering(status(code, Retry_After="3600"))) as receiver,
        working(store, tmp_path, SLOW, now=clock),
    ):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1, due=START)
        until(tried(store, 1))
    assert deliveries(store)[0].due == START + due


def test_after_five_days_of_failing_the_webhook_is_disabled_and_its_deliveries_wait(
    store: Backend, tmp_path: Path
) -> None:
    clock = Clock()
    with receiving(answering(status(500))) as receiver, working(store, tmp_path, SLOW, now=clock):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1, due=START)
        until(tried(store, 1))
        assert webhook(store).failing_since == format_instant(START)
        clock.turn(START + 5 * DAY - 1)
        until(tried(store, 2))
        assert webhook(store).state == "active"
        clock.turn(START + 6 * DAY)
        until(lambda: webhook(store).state == "disabled")
        tell(store, 1, due=START)
        clock.turn(START + 7 * DAY)
        threading.Event().wait(0.4)
        assert len(receiver.requests) == 3
    assert webhook(store).reason == f"every attempt has failed since {format_instant(START)}"
    [entry] = read_events(store, TENANT)
    assert (entry["event"], entry["id"], entry["reason"]) == ("webhook.disabled", "wh-1", webhook(store).reason)
    assert [each.state for each in deliveries(store)] == ["pending", "pending"]


def test_while_secrets_are_rotated_both_sign_and_then_only_the_new_one(store: Backend, tmp_path: Path) -> None:
    clock, former = Clock(1_900_000_000.0), "whsec_" + "Zm9ybWVy" * 6
    with receiving(answering()) as receiver, working(store, tmp_path, SLOW):
        made = subscribed(store, tmp_path, receiver.url, secrets=(SECRET, former))
        now, old = made.secrets
        keep(store, replace(made, secrets=(now, replace(old, until=format_instant(clock.now)))))
        tell(store, 1)
        until(tried(store, 1))
        keep(store, replace(made, secrets=(now, replace(old, until=format_instant(1000.0)))))
        tell(store, 1)
        until(lambda: len(receiver.requests) == 2)
    both, one = receiver.requests
    assert verified(both) == verified(both, former)
    assert len(both[1]["webhook-signature"].split()) == 2
    assert len(one[1]["webhook-signature"].split()) == 1
    assert verified(one)


def test_a_replay_has_a_whole_schedule_before_it(store: Backend, tmp_path: Path) -> None:
    clock = Clock()
    short = replace(SLOW, delays=(1.0,))
    replies = replying(lambda number: status(200 if number == 4 else 500))
    with receiving(replies) as receiver, working(store, tmp_path, short, now=clock):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1, due=START)
        until(tried(store, 1))
        clock.turn(START + 1)
        until(lambda: deliveries(store)[0].state == "failed")
        with store.write(TENANT) as transaction:
            transaction.put(DELIVERIES, [deliveries(store)[0].requeued(START + 1).to_record()])
        until(tried(store, 3))
        clock.turn(START + 2)
        until(lambda: deliveries(store)[0].state == "delivered")
    assert len({(headers["webhook-id"], body) for _, headers, body in receiver.requests}) == 1


def test_what_is_over_is_removed_with_its_body_after_thirty_days(store: Backend, tmp_path: Path) -> None:
    now = START + 40 * DAY
    subscribed(store, tmp_path, "https://tool.example.org/", "wh-1")
    subscribed(store, tmp_path, "https://tool.example.org/", "wh-2", state="disabled")
    for due in (START, now - 29 * DAY):
        tell(store, 2, "wh-1", "wh-2", "wh-gone", due=due)
    with store.write(TENANT) as transaction:
        old = [each for each in deliveries(store) if each.webhook == "wh-1"]
        transaction.put(DELIVERIES, [replace(each, state="failed", due=None).to_record() for each in old[::2]])
    assert purge(store, TENANT, now) == 5
    left = deliveries(store)
    assert [each.webhook for each in left] == ["wh-1", *("wh-1", "wh-2", "wh-gone") * 2]
    with store.read(TENANT) as snapshot:
        assert [key for key in snapshot.keys(BODIES) if key != ":state"] == [each.key for each in left]
        assert len(list(snapshot.keys(WEBHOOKS))) == 2
    assert purge(store, TENANT, now) == 0
    tell(store, 1)
    assert deliveries(store)[-1].key > left[-1].key
