"""What came of an attempt is written to the delivery that it was made for, and to no other."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.outbox.delivery import BODIES, COLLECTION
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.storage import COLLECTIONS
from tests.support.deliveries import TENANT, deliveries, ids, keep, subscribed, tell, until, working
from tests.support.receiver import OK, Receiver, answering, read_request, receiving


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


def slow(receiver: Receiver, stream: socket.socket) -> None:
    """Answer after a while."""
    while read_request(receiver, stream):
        time.sleep(0.8)
        stream.sendall(OK)


def erase(store: Backend, *collections: str) -> None:
    """Remove all of them, with what they count by, as a tenant that is deleted loses them."""
    with store.write(TENANT) as transaction:
        for collection in collections:
            transaction.delete(collection, list(transaction.keys(collection)))


def test_a_tenant_that_is_made_anew_while_an_attempt_is_under_way_loses_no_event_to_it(
    store: Backend, tmp_path: Path
) -> None:
    with receiving(slow) as former, receiving(answering()) as receiver:
        subscribed(store, tmp_path, former.url)
        tell(store, 1)
        with working(store, tmp_path):
            until(lambda: former.requests)
            erase(store, COLLECTION, BODIES, WEBHOOKS)
            made = subscribed(store, tmp_path, receiver.url, "wh-2", state="paused")
            told = tell(store, 1, "wh-2")
            time.sleep(1.5)  # what came of the attempt is written, if it is
            [delivery] = deliveries(store)
            assert (delivery.state, delivery.attempts) == ("pending", ())
            keep(store, replace(made, state="active"))
            until(lambda: ids(receiver) == told)


def test_an_event_that_took_the_place_of_another_under_way_is_sent_too(store: Backend, tmp_path: Path) -> None:
    with receiving(slow) as receiver, working(store, tmp_path):
        subscribed(store, tmp_path, receiver.url)
        first = tell(store, 1)
        until(lambda: receiver.requests)
        erase(store, COLLECTION, BODIES)  # as when a backup of the store is put back
        second = tell(store, 1)
        until(lambda: ids(receiver) == first + second)
        until(lambda: [each.state for each in deliveries(store)] == ["delivered"])
