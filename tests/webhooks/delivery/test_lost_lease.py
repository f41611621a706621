"""Worker that loses its lease: another machine goes on, and the first one sends nothing more."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Event

from chalk_flask.background.leader_lock import LeaderLock, worker_lock
from chalk_flask.storage import COLLECTIONS
from tests.support.deliveries import (
    add_webhook,
    event_ids,
    http_response,
    list_deliveries,
    queue_events,
    running_worker,
    wait_until,
)
from tests.support.receiver import Receiver, read_request, run_receiver
from tests.support.storage.tenant_locks import TenantLockBackend

EVENTS = 20
SENT_BEFORE = 3


def test_worker_without_its_lease_stops_and_another_one_delivers_the_rest(tmp_path: Path) -> None:
    requests: list[int] = []
    is_sending, may_go_on = Event(), Event()

    def respond_slowly(receiver: Receiver, stream: socket.socket) -> None:
        connection = len(requests)
        requests.append(0)
        while read_request(receiver, stream):
            requests[connection] += 1
            if connection == 0 and requests[connection] == SENT_BEFORE:
                is_sending.set()
                assert may_go_on.wait(60)
            stream.sendall(http_response(200))

    with TenantLockBackend(COLLECTIONS) as store, run_receiver(respond_slowly) as receiver:
        first = worker_lock("webhooks", store, "memory:", tmp_path / "a")
        lease = store.lease("webhooks")
        add_webhook(store, tmp_path, receiver.url)
        events = queue_events(store, EVENTS)
        with running_worker(store, tmp_path, leader_lock=first):
            assert is_sending.wait(60)
            store.lease_holders["webhooks"] = lease
            may_go_on.set()
            with running_worker(store, tmp_path, leader_lock=LeaderLock(tmp_path / "b", lease=lease)):
                wait_until(lambda: {delivery.state for delivery in list_deliveries(store)} == {"delivered"})
            assert requests[0] == SENT_BEFORE
    assert set(event_ids(receiver)) == set(events)
