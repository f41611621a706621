"""Webhook deliveries while the delivering process is killed again and again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT
from tests.support.deliveries import add_webhook, event_ids, list_deliveries, queue_events, wait_until
from tests.support.receiver import Receiver, respond, run_receiver
from tests.support.small_roster import fill

pytestmark = pytest.mark.slow

KILLS = 20
EVENTS_PER_LIFE = 50
EVENTS_PER_SECOND = 50

WORKER = """
import sys, time
from pathlib import Path
from backends import open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.background.leader_lock import leader_lock_for
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks import SsrfGuard, WebhookClient, Worker

url, data = sys.argv[1], Path(sys.argv[2])
store = open_store(url, COLLECTIONS)
guard = SsrfGuard(["127.0.0.1"])
lock = leader_lock_for("webhooks", url, data, shared=True)
Worker(store, SecretCipher(data), lock, lambda: WebhookClient(guard)).start()
time.sleep(600)
"""


@contextmanager
def running_process(url: str, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with a worker until the block ends, and kill it then."""
    environ = CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", WORKER, url, str(data)], env=environ) as process:
        try:
            yield process
        finally:
            process.kill()


def is_received(receiver: Receiver, event: str) -> bool:
    return event in event_ids(receiver)


def is_finished(store: Backend) -> bool:
    return all(delivery.state == "delivered" for delivery in list_deliveries(store))


def test_less_than_one_percent_is_repeated_over_twenty_kills(tmp_path: Path) -> None:
    """Each event is queued in a transaction of its own, as a PUT does."""
    url, data, queued, choice = url_in(tmp_path, "sqlite"), tmp_path / "data", list[str](), random.Random(20)
    with open_store(url, COLLECTIONS) as store, run_receiver(respond()) as receiver:
        fill(store)
        add_webhook(store, data, receiver.url)
        for _ in range(KILLS):
            with running_process(url, data) as process:
                queued += queue_events(store, 1)
                wait_until(partial(is_received, receiver, queued[-1]))
                last = choice.randrange(5, EVENTS_PER_LIFE)
                for number in range(1, EVENTS_PER_LIFE):
                    if number == last:
                        process.kill()
                    time.sleep(1 / EVENTS_PER_SECOND)
                    queued += queue_events(store, 1)
        with running_process(url, data):
            wait_until(partial(is_finished, store))
    counts = Counter(event_ids(receiver))
    repeated = sum(counts.values()) - len(counts)
    print(f"{repeated} of {len(queued)} deliveries were repeated over {KILLS} kills")  # noqa: T201 - the figure
    assert set(counts) == set(queued)
    assert len(queued) == KILLS * EVENTS_PER_LIFE
    assert repeated < len(queued) / 100
