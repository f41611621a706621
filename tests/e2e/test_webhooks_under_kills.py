"""Webhook deliveries while the delivering process is killed again and again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT
from tests.support.deliveries import add_webhook, event_ids, list_deliveries, queue_events, wait_until
from tests.support.receiver import respond, run_receiver

pytestmark = pytest.mark.slow

KILLS = 20
EVENTS = 1000
EVENTS_PER_SECOND = 50

WORKER = """
import sys, time
from pathlib import Path
from backends import open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks import SsrfGuard, WebhookClient, Worker, leader_lock_for

url, data = sys.argv[1], Path(sys.argv[2])
store = open_store(url, COLLECTIONS)
guard = SsrfGuard(["127.0.0.1"])
Worker(store, SecretCipher(data), leader_lock_for(url, data, shared=True), lambda: WebhookClient(guard)).start()
time.sleep(600)
"""


def start_worker(url: str, data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(data)], env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)}
    )


def queue_steadily(store: Backend, queued: list[str]) -> None:
    """Queue EVENTS events, each in a transaction of its own as a PUT does, 50 per second."""
    started = time.monotonic()
    for number in range(EVENTS):
        time.sleep(max(0.0, started + number / EVENTS_PER_SECOND - time.monotonic()))
        queued += queue_events(store, 1)


@pytest.mark.parametrize("backend_name", ["sqlite"])
def test_less_than_one_percent_is_repeated_over_twenty_kills(backend_name: str, tmp_path: Path) -> None:
    url, data, queued = url_in(tmp_path, backend_name), tmp_path / "data", list[str]()
    choice = random.Random(20)
    with open_store(url, COLLECTIONS) as store, run_receiver(respond()) as receiver:
        add_webhook(store, data, receiver.url)
        queueing = threading.Thread(target=queue_steadily, args=[store, queued])
        queueing.start()
        try:
            for _ in range(KILLS):
                received = len(receiver.requests)
                with start_worker(url, data) as worker:
                    wait_until(lambda received=received: len(receiver.requests) > received, 60)
                    time.sleep(choice.uniform(0.1, 0.5))
                    worker.send_signal(signal.SIGKILL)
            queueing.join()
            with start_worker(url, data) as worker:
                wait_until(lambda: all(delivery.state == "delivered" for delivery in list_deliveries(store)), 60)
                worker.kill()
        finally:
            queueing.join()
    counts = Counter(event_ids(receiver))
    repeated = sum(counts.values()) - len(counts)
    print(f"{repeated} of {EVENTS} deliveries were repeated over {KILLS} kills")  # noqa: T201 - the figure of the test
    assert set(counts) == set(queued)
    assert len(queued) == EVENTS
    assert repeated < EVENTS / 100
