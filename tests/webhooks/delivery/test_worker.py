"""The worker on real stores and real sockets: what is delivered, in which order, and what holds it up."""

from __future__ import annotations

import itertools
import socket
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend, StorageUnavailableError, Transaction, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.audit.events import read_events
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from tests.conftest import url_in
from tests.support.deliveries import (
    BUSY,
    TENANT,
    deliveries,
    hanging,
    ids,
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
from tests.support.receiver import Receiver, answering, read_request, receiving


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


def settled(store: Backend) -> bool:
    return all(each.state != "pending" for each in deliveries(store))


def test_events_arrive_in_order_once_and_as_they_were_written(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        told = [*tell(store, 150), *tell(store, 150)]
        until(lambda: settled(store))
        assert ids(receiver) == told
        assert receiver.connections == 1
        with store.read(TENANT) as snapshot:
            kept = snapshot.get_many(BODIES, [each.key for each in deliveries(store)])
        assert [body for _, _, body in receiver.requests] == [kept[key] for key in sorted(kept)]
        assert [verified(each)["event_id"] for each in receiver.requests] == told
        assert all(each.state == "delivered" and each.attempts[0].status == 200 for each in deliveries(store))


def test_a_delivery_that_failed_is_repeated_with_the_same_bytes_and_a_fresh_timestamp(
    store: Backend, tmp_path: Path
) -> None:
    slow = RetryPolicy(delays=(1.1,), jitter=0.0, backoff_base=0.01)
    with receiving(replying(lambda n: status(200 if n > 1 else 500))) as receiver, working(store, tmp_path, slow):
        subscribed(store, tmp_path, receiver.url)
        [event] = tell(store, 1)
        until(lambda: settled(store))
    (_, first, body), (_, second, again) = receiver.requests
    assert (first["webhook-id"], body) == (second["webhook-id"], again) == (event, body)
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    assert all(verified(each)["event_id"] == event for each in receiver.requests)
    [delivery] = deliveries(store)
    assert [(each.status, each.answer) for each in delivery.attempts] == [(500, "words"), (200, "words")]


def dripping(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\n"):
        stream.send(bytes([byte]))
        time.sleep(0.1)


def resetting(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def flooding(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.sendall(b"HTTP/1.1 500 X\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        stream.sendall(b"x" * 65536)


HOSTILE = (hanging, dripping, resetting, flooding, *(answering(status(code)) for code in (302, 404, 500)))


def test_endpoints_that_fail_in_every_way_delay_no_other(store: Backend, tmp_path: Path) -> None:
    arrived: list[float] = []

    def noting(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            arrived.append(time.time())
            stream.sendall(status(200))

    with ExitStack() as stack:
        living, *others = (stack.enter_context(receiving(behave)) for behave in (noting, *HOSTILE))
        stack.enter_context(working(store, tmp_path, replace(BUSY, delays=(60.0,))))
        subscribed(store, tmp_path, living.url, "living")
        urls = [*(each.url for each in others), living.url.replace("http:", "https:")]
        names = [subscribed(store, tmp_path, url, f"wh-{number}").id for number, url in enumerate(urls)]
        took: list[float] = []
        while len(took) < 20:
            tell(store, 1, *names, "living")
            told = time.time()
            until(lambda: len(arrived) > len(took))
            took.append(arrived[-1] - told)
        until(lambda: {each.webhook for each in deliveries(store) if each.attempts} == {*names, "living"})
    assert sorted(took)[-1] < 2
    for each in deliveries(store):
        assert each.webhook == "living" or each.state == "pending"
        assert all((found.status or 500) >= 300 for found in each.attempts if each.webhook != "living")


def test_a_webhook_that_is_resumed_is_tried_at_once_though_it_had_failed(store: Backend, tmp_path: Path) -> None:
    slow = RetryPolicy(backoff_base=600.0, backoff_max=600.0)
    with (
        receiving(replying(lambda n: status(200 if n > 1 else 500))) as receiver,
        working(store, tmp_path, slow),
    ):
        hook = subscribed(store, tmp_path, receiver.url)
        tell(store, 2)
        until(lambda: deliveries(store)[0].attempts)
        time.sleep(0.3)
        assert len(receiver.requests) == 1
        keep(store, replace(hook, state="paused"))
        time.sleep(0.5)
        keep(store, hook)
        until(lambda: len(receiver.requests) == 2)


def test_a_webhook_that_is_paused_keeps_its_deliveries_for_later(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        paused = subscribed(store, tmp_path, receiver.url, state="paused")
        told = tell(store, 3)
        time.sleep(0.5)
        assert receiver.connections == 0
        keep(store, replace(paused, state="active"))
        until(lambda: settled(store))
        assert ids(receiver) == told


def test_a_webhook_that_is_deleted_gets_nothing_more(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1)
        until(lambda: settled(store))
        with store.write(TENANT) as transaction:
            transaction.delete(WEBHOOKS, ["wh-1"])
        tell(store, 1)
        time.sleep(0.5)
        assert len(receiver.requests) == 1


def test_410_disables_the_webhook_at_once_and_is_noted(store: Backend, tmp_path: Path) -> None:
    with receiving(answering(status(410))) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 3)
        until(lambda: webhook(store).state == "disabled")
        time.sleep(0.5)
        assert len(receiver.requests) == 1
    assert webhook(store).reason == "the endpoint answered 410 Gone"
    [entry] = read_events(store, TENANT)
    assert (entry["event"], entry["id"]) == ("webhook.disabled", "wh-1")
    assert [each.state for each in deliveries(store)] == ["pending"] * 3


def test_after_the_last_attempt_the_delivery_has_failed(store: Backend, tmp_path: Path) -> None:
    with receiving(answering(status(302, Location="http://127.0.0.1:1/"))) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1)
        until(lambda: settled(store))
        time.sleep(0.3)
        assert len(receiver.requests) == 3
    [delivery] = deliveries(store)
    assert (delivery.state, delivery.due) == ("failed", None)
    assert [each.status for each in delivery.attempts] == [302] * 3
    assert webhook(store).failing_since is None, "nothing is tried any more, so nothing fails"


def test_a_success_ends_the_failing(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url, failing_since="2020-01-01T00:00:00.000Z")
        tell(store, 1)
        until(lambda: webhook(store).failing_since is None)


def test_a_url_that_is_not_allowed_any_more_is_a_failed_attempt(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path, allowed=()):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1)
        until(lambda: deliveries(store)[0].attempts)
        assert receiver.connections == 0
    [delivery] = deliveries(store)
    assert "not public" in (delivery.attempts[0].error or "")


def test_a_key_that_is_missing_is_a_failed_attempt_that_says_so(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path / "other"):
        subscribed(store, tmp_path / "data", receiver.url)
        tell(store, 1)
        until(lambda: deliveries(store)[0].attempts)
        assert receiver.connections == 0
    [delivery] = deliveries(store)
    assert "secrets.key" in (delivery.attempts[0].error or "")


def test_what_waits_for_another_writer_is_sent_once(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        told = tell(store, 400)
        until(lambda: len(receiver.requests) > 10)
        with store.write("elsewhere"):
            time.sleep(1.5)
        until(lambda: settled(store))
        assert ids(receiver) == told


class Filled(MemoryBackend):
    """A store in memory whose disk is full while it is told to be."""

    full = False

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        if self.full:
            raise StorageUnavailableError("no space left on device")
        return super().write(tenant, wait)


def test_while_the_disk_is_full_what_was_sent_is_remembered_and_not_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Filled.open("memory:", COLLECTIONS) as store, receiving(answering()) as receiver:
        subscribed(store, tmp_path, receiver.url)
        told = tell(store, 300)
        store.full = True
        with working(store, tmp_path):
            until(lambda: len(receiver.requests) == 256)
            time.sleep(0.5)
            assert len(receiver.requests) == 256
            store.full = False
            until(lambda: settled(store))
    assert ids(receiver) == told
    assert "no space left" in caplog.text
    assert "hush" not in caplog.text


def test_a_worker_that_has_nothing_to_do_costs_next_to_nothing(store: Backend, tmp_path: Path) -> None:
    with receiving(answering()) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        tell(store, 1)
        until(lambda: settled(store))
        time.sleep(1.5)
        before = time.process_time()
        time.sleep(2)
        assert time.process_time() - before < 0.06


def test_large_bodies_are_not_all_held_at_once(tmp_path: Path) -> None:
    count, size = 40, 400_000

    def discarding(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            receiver.requests[-1] = ("", {}, b"")
            stream.sendall(status(200))

    with open_store(url_in(tmp_path, "sqlite"), COLLECTIONS) as store, receiving(discarding) as receiver:
        subscribed(store, tmp_path, receiver.url)
        tell(store, count, data={"batch": {"changes": ["x" * size]}})
        tracemalloc.start()
        with working(store, tmp_path):
            until(lambda: len(receiver.requests) == count, 60)
            _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < count * size / 2
