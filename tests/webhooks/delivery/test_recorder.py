"""Recording of attempt results: each goes to the delivery of its event, and to no other."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.outbox.delivery import BODIES, COLLECTION
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from tests.support.deliveries import (
    TENANT,
    add_webhook,
    event_ids,
    list_deliveries,
    put_webhook,
    queue_events,
    running_worker,
    wait_until,
)
from tests.support.receiver import OK_RESPONSE, Receiver, read_request, respond, run_receiver

pytestmark = pytest.mark.slow


def respond_slowly(receiver: Receiver, stream: socket.socket) -> None:
    while read_request(receiver, stream):
        time.sleep(0.4)
        stream.sendall(OK_RESPONSE)


def delete_all(store: Backend, *collections: str) -> None:
    """Delete all records and counters, as the deletion of a tenant does."""
    with store.write(TENANT) as transaction:
        for collection in collections:
            transaction.delete(collection, list(transaction.keys(collection)))


def test_result_of_a_deleted_tenant_is_not_stored_for_its_successor(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond_slowly) as old_receiver, run_receiver(respond()) as receiver:
        add_webhook(store, tmp_path, old_receiver.url)
        queue_events(store, 1)
        with running_worker(store, tmp_path):
            wait_until(lambda: old_receiver.requests)
            delete_all(store, COLLECTION, BODIES, WEBHOOKS)
            webhook = add_webhook(store, tmp_path, receiver.url, "wh-2", state="paused")
            expected = queue_events(store, 1, "wh-2")
            time.sleep(1.0)  # the recorder has written the result by now, if it does
            [delivery] = list_deliveries(store)
            assert (delivery.state, delivery.attempts) == ("pending", ())
            put_webhook(store, replace(webhook, state="active"))
            wait_until(lambda: event_ids(receiver) == expected)


def test_event_that_replaces_another_during_an_attempt_is_sent_too(store: Backend, tmp_path: Path) -> None:
    with run_receiver(respond_slowly) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        first = queue_events(store, 1)
        wait_until(lambda: receiver.requests)
        delete_all(store, COLLECTION, BODIES)  # as when an operator restores a backup
        second = queue_events(store, 1)
        wait_until(lambda: event_ids(receiver) == first + second)
        wait_until(lambda: [delivery.state for delivery in list_deliveries(store)] == ["delivered"])
