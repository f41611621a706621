"""Webhooks of a served district: from the command line to a receiver, over more than one process and a sudden end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT, run_command
from tests.support.deliveries import event_ids, list_deliveries, never_respond, queue_events, verify_request, wait_until
from tests.support.packages import Made
from tests.support.receiver import Receiver, respond, run_receiver


class District:
    """A roster in a store, and a webhook for it."""

    def __init__(self, folder: Path, kind: str, receiver: Receiver) -> None:
        self.folder, self.storage = folder, url_in(folder, kind)
        self.words = ("--storage", self.storage, "--data", str(folder / "data"))
        run_command(folder, "import", Made().zip(folder / "base.zip"), *self.words)
        words = ("--url", receiver.url, "--mode", "per_entity", "--json", "--webhook-allowed-hosts", "127.0.0.1")
        made = json.loads(run_command(folder, "webhook", "create", *words, *self.words))
        self.hook: str = made["id"]
        self.secret: str = made["secret"]

    def changed(self, name: str) -> None:
        """Import the roster with another name of a school."""
        package = Made().set("orgs", "org-2", name=name).zip(self.folder / "changed.zip")
        run_command(self.folder, "import", package, *self.words)

    def tell(self, count: int) -> list[str]:
        """Enqueue events, and give their ids."""
        with open_store(self.storage, COLLECTIONS) as store:
            return queue_events(store, count, self.hook)

    @contextmanager
    def served(self) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
        """A process that serves the store, and what it has said; killed at the end."""
        words = ("serve", "--port", "0", *self.words, "--webhook-allowed-hosts", "127.0.0.1")
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *words],
            cwd=self.folder,
            env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                said = [process.stderr.readline()]
                assert re.search(r"Listening on", said[0]), said
                yield process, said
            finally:
                process.kill()
                said += process.stderr.readlines()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_change_reaches_who_subscribed_to_it_with_a_signature_that_holds(kind: str, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver:
        district = District(tmp_path, kind, receiver)
        with district.served() as (process, said):
            district.changed("Elsewhere")
            wait_until(lambda: len(receiver.requests) >= 2)
            process.terminate()
            assert process.wait(10) == 0
    events = [verify_request(request, district.secret) for request in receiver.requests]
    assert [event["event_type"] for event in events] == ["org.updated", "sync.completed"]
    assert events[0]["data"]["single"]["sourced_id"] == "org-2"
    assert "hush" not in "".join(said)


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_of_two_processes_one_delivers_and_the_other_takes_over_when_it_is_killed(kind: str, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver:
        district = District(tmp_path, kind, receiver)
        with district.served() as (first, _):
            told = district.tell(1)
            wait_until(lambda: event_ids(receiver) == told)
            with district.served():
                told += district.tell(200)
                wait_until(lambda: len(receiver.requests) >= len(told))
                time.sleep(0.5)
                assert event_ids(receiver) == told
                told += district.tell(400)
                wait_until(lambda: len(receiver.requests) > 250)
                first.kill()
                killed = time.monotonic()
                wait_until(lambda: set(event_ids(receiver)) == set(told))
                assert time.monotonic() - killed < 10
                assert list(dict.fromkeys(event_ids(receiver))) == told
                with open_store(district.storage, COLLECTIONS) as store:
                    wait_until(lambda: all(each.state == "delivered" for each in list_deliveries(store)))
    bodies = {(headers["webhook-id"], body) for _, headers, body in receiver.requests}
    assert len(bodies) == len(told)


def test_a_stop_does_not_wait_for_an_endpoint_that_hangs(tmp_path: Path) -> None:
    with run_receiver(never_respond) as receiver:
        district = District(tmp_path, "sqlite", receiver)
        with district.served() as (process, _):
            district.tell(3)
            wait_until(lambda: receiver.requests)
            began = time.monotonic()
            process.terminate()
            assert process.wait(10) == 0
            assert time.monotonic() - began < 5
    with open_store(district.storage, COLLECTIONS) as store:
        assert [(each.state, each.attempts) for each in list_deliveries(store)] == [("pending", ())] * 3
