"""Worker on real stores and sockets: selection, order and delays of deliveries."""

from __future__ import annotations

import itertools
import socket
import struct
import time
import tracemalloc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend, StorageUnavailableError, Transaction
from backends.memory.backend import MemoryBackend
from chalk_flask.audit.events import read_events
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.delivery.queue import MAX_UNSAVED_RESULTS
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from tests.support.deliveries import (
    FAST_RETRIES,
    TENANT,
    add_webhook,
    event_ids,
    get_webhook,
    http_response,
    list_deliveries,
    never_respond,
    put_webhook,
    queue_events,
    respond_by_number,
    running_worker,
    verify_request,
    wait_until,
)
from tests.support.receiver import Receiver, read_request, respond, run_receiver


def is_finished(store: Backend) -> bool:
    return all(delivery.state != "pending" for delivery in list_deliveries(store))


@pytest.mark.every_backend
def test_events_arrive_in_order_once_and_unchanged(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        expected = [*queue_events(store, 150), *queue_events(store, 150)]
        wait_until(lambda: is_finished(store))
        assert event_ids(receiver) == expected
        assert receiver.connections == 1
        deliveries = list_deliveries(store)
        with store.read(TENANT) as snapshot:
            bodies = snapshot.get_many(BODIES, [delivery.key for delivery in deliveries])
    assert [body for _, _, body in receiver.requests] == [bodies[key] for key in sorted(bodies)]
    assert [verify_request(request)["event_id"] for request in receiver.requests] == expected
    assert all(delivery.state == "delivered" for delivery in deliveries)
    assert all(delivery.attempts[0].status == 200 for delivery in deliveries)


def test_worker_without_webhooks_runs_from_start_to_close(store: Backend, tmp_path: Path) -> None:
    lock = LeaderLock(tmp_path / "lock")
    with running_worker(store, tmp_path, leader_lock=lock) as worker:
        wait_until(worker.is_running_anywhere)
        assert LeaderLock(tmp_path / "lock").has_holder()
    assert not worker.is_running_anywhere()


def test_failed_delivery_is_sent_again_with_a_new_timestamp(store: Backend, tmp_path: Path) -> None:
    slow = RetryPolicy(delays=(1.1,), jitter=0.0, backoff_base=0.01)
    handler = respond_by_number(lambda number: http_response(200 if number > 1 else 500))
    with run_receiver(handler) as receiver, running_worker(store, tmp_path, slow):
        add_webhook(store, tmp_path, receiver.url)
        [event] = queue_events(store, 1)
        wait_until(lambda: is_finished(store))
    (_, first, first_body), (_, second, second_body) = receiver.requests
    assert (first["webhook-id"], first_body) == (second["webhook-id"], second_body) == (event, first_body)
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    assert all(verify_request(request)["event_id"] == event for request in receiver.requests)
    [delivery] = list_deliveries(store)
    assert [(attempt.status, attempt.answer) for attempt in delivery.attempts] == [(500, "words"), (200, "words")]


def drip(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\n"):
        stream.send(bytes([byte]))
        time.sleep(0.1)


def reset(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def flood(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.sendall(b"HTTP/1.1 500 X\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        stream.sendall(b"x" * 65536)


FAILING = (never_respond, drip, reset, flood, *(respond(http_response(status)) for status in (302, 404, 500)))


@pytest.mark.slow
def test_failing_receivers_do_not_delay_others(store: Backend, tmp_path: Path) -> None:
    arrivals: list[float] = []

    def record_arrival(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            arrivals.append(time.time())
            stream.sendall(http_response(200))

    with ExitStack() as stack:
        working, *failing = (stack.enter_context(run_receiver(handle)) for handle in (record_arrival, *FAILING))
        stack.enter_context(running_worker(store, tmp_path, replace(FAST_RETRIES, delays=(60.0,))))
        add_webhook(store, tmp_path, working.url, "working")
        urls = [*(receiver.url for receiver in failing), working.url.replace("http:", "https:")]
        names = [add_webhook(store, tmp_path, url, f"wh-{number}").id for number, url in enumerate(urls)]
        durations: list[float] = []
        while len(durations) < 15:
            queue_events(store, 1, *names, "working")
            queued = time.time()
            wait_until(lambda: len(arrivals) > len(durations))
            durations.append(arrivals[-1] - queued)
        wait_until(lambda: {item.webhook for item in list_deliveries(store) if item.attempts} == {*names, "working"})
    assert sorted(durations)[7] < 2  # the median, because a loaded machine delays single events
    for delivery in list_deliveries(store):
        if delivery.webhook != "working":
            assert delivery.state == "pending"
            assert all((attempt.status or 500) >= 300 for attempt in delivery.attempts)


def test_resumed_webhook_is_tried_at_once_after_failures(store: Backend, tmp_path: Path) -> None:
    slow = RetryPolicy(backoff_base=600.0, backoff_max=600.0)
    handler = respond_by_number(lambda number: http_response(200 if number > 1 else 500))
    with run_receiver(handler) as receiver, running_worker(store, tmp_path, slow):
        webhook = add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 2)
        wait_until(lambda: list_deliveries(store)[0].attempts)
        time.sleep(0.3)
        assert len(receiver.requests) == 1
        put_webhook(store, replace(webhook, state="paused"))
        time.sleep(0.5)
        put_webhook(store, webhook)
        wait_until(lambda: len(receiver.requests) == 2)


def test_paused_webhook_keeps_its_deliveries_for_later(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        paused = add_webhook(store, tmp_path, receiver.url, state="paused")
        expected = queue_events(store, 3)
        time.sleep(0.5)
        assert receiver.connections == 0
        put_webhook(store, replace(paused, state="active"))
        wait_until(lambda: is_finished(store))
        assert event_ids(receiver) == expected


def test_deleted_webhook_gets_no_more_deliveries(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        wait_until(lambda: is_finished(store))
        with store.write(TENANT) as transaction:
            transaction.delete(WEBHOOKS, ["wh-1"])
        queue_events(store, 1)
        time.sleep(0.5)
        assert len(receiver.requests) == 1


def test_status_410_disables_the_webhook_and_is_audited(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond(http_response(410))) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 3)
        wait_until(lambda: get_webhook(store).state == "disabled")
        time.sleep(0.5)
        assert len(receiver.requests) == 1
    assert get_webhook(store).reason == "the endpoint answered 410 Gone"
    [entry] = read_events(store, TENANT)
    assert (entry["event"], entry["id"]) == ("webhook.disabled", "wh-1")
    assert [delivery.state for delivery in list_deliveries(store)] == ["pending"] * 3


def test_delivery_fails_after_its_last_attempt(store: Backend, tmp_path: Path) -> None:
    redirect = respond(http_response(302, Location="http://127.0.0.1:1/"))
    with run_receiver(redirect) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        wait_until(lambda: is_finished(store))
        time.sleep(0.3)
        assert len(receiver.requests) == 3
    [delivery] = list_deliveries(store)
    assert (delivery.state, delivery.due) == ("failed", None)
    assert [attempt.status for attempt in delivery.attempts] == [302] * 3
    assert get_webhook(store).failing_since is None, "without a pending delivery nothing fails"


def test_success_resets_failing_since(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url, failing_since="2020-01-01T00:00:00.000Z")
        queue_events(store, 1)
        wait_until(lambda: get_webhook(store).failing_since is None)


def test_url_that_is_no_longer_allowed_is_a_failed_attempt(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path, allowed=()):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        wait_until(lambda: list_deliveries(store)[0].attempts)
        assert receiver.connections == 0
    [delivery] = list_deliveries(store)
    assert "not public" in (delivery.attempts[0].error or "")


def test_missing_key_file_is_a_failed_attempt(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path / "other"):
        add_webhook(store, tmp_path / "data", receiver.url)
        queue_events(store, 1)
        wait_until(lambda: list_deliveries(store)[0].attempts)
        assert receiver.connections == 0
    [delivery] = list_deliveries(store)
    assert "secrets.key" in (delivery.attempts[0].error or "")


def test_missing_body_is_a_failed_attempt(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver:
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        with store.write(TENANT) as transaction:
            transaction.delete(BODIES, [list_deliveries(store)[0].key])
        with running_worker(store, tmp_path):
            wait_until(lambda: list_deliveries(store)[0].attempts)
        assert receiver.connections == 0
    assert list_deliveries(store)[0].attempts[0].error == "the body is missing in the store"


@pytest.mark.on_backend("sqlite")
def test_deliveries_are_sent_once_while_another_writer_holds_the_lock(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        expected = queue_events(store, 400)
        wait_until(lambda: len(receiver.requests) > 10)
        with store.write("elsewhere"):
            time.sleep(1.0)
        wait_until(lambda: is_finished(store))
        assert event_ids(receiver) == expected


class FullDiskBackend(MemoryBackend):
    """Store in memory whose disk is full while `full` is True."""

    full = False

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        if self.full:
            raise StorageUnavailableError("no space left on device")
        return super().write(tenant, wait)


def test_deliveries_are_sent_once_while_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FullDiskBackend.open("memory:", COLLECTIONS) as store, run_receiver(respond()) as receiver:
        add_webhook(store, tmp_path, receiver.url)
        expected = queue_events(store, MAX_UNSAVED_RESULTS + 44)
        store.full = True
        with running_worker(store, tmp_path):
            wait_until(lambda: len(receiver.requests) == MAX_UNSAVED_RESULTS)
            time.sleep(0.5)
            assert len(receiver.requests) == MAX_UNSAVED_RESULTS
            store.full = False
            wait_until(lambda: is_finished(store))
    assert event_ids(receiver) == expected
    assert "no space left" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_idle_worker_takes_little_cpu_time(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        wait_until(lambda: is_finished(store))
        time.sleep(1.5)
        before = time.process_time()
        time.sleep(1.5)
        assert time.process_time() - before < 0.5, "a busy loop takes 1.5 s"


def accept_and_forget(receiver: Receiver, stream: socket.socket) -> None:
    """Accept requests without keeping their bodies in memory."""
    while read_request(receiver, stream):
        receiver.requests[-1] = ("", {}, b"")
        stream.sendall(http_response(200))


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_large_bodies_are_not_all_in_memory_at_once(store: Backend, tmp_path: Path) -> None:
    count, size = 40, 400_000

    with run_receiver(accept_and_forget) as receiver:
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, count, data={"batch": {"changes": ["x" * size]}})
        tracemalloc.start()
        with running_worker(store, tmp_path):
            wait_until(lambda: len(receiver.requests) == count)
            _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < count * size / 2


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_large_bodies_after_many_small_ones_are_read_in_parts(store: Backend, tmp_path: Path) -> None:
    small, large, size = 400, 40, 400_000

    with run_receiver(accept_and_forget) as receiver:
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, small)
        queue_events(store, large, data={"batch": {"changes": ["x" * size]}})
        tracemalloc.start()
        with running_worker(store, tmp_path):
            wait_until(lambda: len(receiver.requests) == small + large)
            _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < large * size / 2
