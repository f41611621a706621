"""Webhooks of a served district: from the command line to a receiver, with several processes and sudden ends."""

from __future__ import annotations

import json
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
from tests.support.deliveries import (
    event_ids,
    list_deliveries,
    never_respond,
    queue_events,
    verify_request,
    wait_until,
)
from tests.support.packages import PackageBuilder
from tests.support.receiver import Receiver, respond, run_receiver

pytestmark = pytest.mark.slow


class District:
    """Roster in a store with a webhook for it."""

    def __init__(self, folder: Path, backend: str, receiver: Receiver) -> None:
        self.folder, self.storage = folder, url_in(folder, backend)
        self.options = ("--storage", self.storage, "--data", str(folder / "data"))
        run_command(folder, "import", PackageBuilder().zip(folder / "base.zip"), *self.options)
        webhook_options = ("--url", receiver.url, "--mode", "per_entity", "--webhook-allowed-hosts", "127.0.0.1")
        created = json.loads(run_command(folder, "webhook", "create", *webhook_options, "--json", *self.options))
        self.webhook: str = created["id"]
        self.secret: str = created["secret"]

    def rename_school(self, name: str) -> None:
        """Import the roster with another name of a school."""
        package = PackageBuilder().set("orgs", "org-2", name=name).zip(self.folder / "changed.zip")
        run_command(self.folder, "import", package, *self.options)

    def queue_events(self, count: int) -> list[str]:
        """Queue events and return their ids."""
        with open_store(self.storage, COLLECTIONS) as store:
            return queue_events(store, count, self.webhook)

    @contextmanager
    def serve(self) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
        """Run a process that serves the store; yield it and its output so far, and kill it at the end."""
        args = ("serve", "--port", "0", *self.options, "--webhook-allowed-hosts", "127.0.0.1")
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *args],
            cwd=self.folder,
            env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                output: list[str] = []
                while not output or "Listening on" not in output[-1]:
                    output.append(process.stderr.readline())
                    assert output[-1], output
                yield process, output
            finally:
                process.kill()
                output += process.stderr.readlines()


@pytest.mark.parametrize("backend_name", ["json", "sqlite"])
def test_imported_change_reaches_the_receiver_signed(backend_name: str, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver:
        district = District(tmp_path, backend_name, receiver)
        with district.serve() as (process, output):
            district.rename_school("Elsewhere")
            wait_until(lambda: len(receiver.requests) >= 2)
            process.terminate()
            assert process.wait(60) == 0
    events = [verify_request(request, district.secret) for request in receiver.requests]
    assert [event["event_type"] for event in events] == ["org.updated", "sync.completed"]
    assert events[0]["data"]["single"]["sourced_id"] == "org-2"
    assert "hush" not in "".join(output)


@pytest.mark.parametrize("backend_name", ["json", "sqlite"])
def test_second_process_takes_over_when_the_first_is_killed(backend_name: str, tmp_path: Path) -> None:
    with run_receiver(respond()) as receiver:
        district = District(tmp_path, backend_name, receiver)
        with district.serve() as (first, _):
            expected = district.queue_events(1)
            wait_until(lambda: event_ids(receiver) == expected)
            with district.serve():
                expected += district.queue_events(200)
                wait_until(lambda: len(receiver.requests) >= len(expected))
                time.sleep(0.5)
                assert event_ids(receiver) == expected
                expected += district.queue_events(400)
                wait_until(lambda: len(receiver.requests) > 250)
                first.kill()
                killed = time.monotonic()
                wait_until(lambda: set(event_ids(receiver)) == set(expected))
                assert time.monotonic() - killed < 45
                assert list(dict.fromkeys(event_ids(receiver))) == expected
                with open_store(district.storage, COLLECTIONS) as store:
                    wait_until(lambda: all(delivery.state == "delivered" for delivery in list_deliveries(store)))
    bodies = {(headers["webhook-id"], body) for _, headers, body in receiver.requests}
    assert len(bodies) == len(expected)


def test_stop_does_not_wait_for_a_hanging_receiver(tmp_path: Path) -> None:
    with run_receiver(never_respond) as receiver:
        district = District(tmp_path, "sqlite", receiver)
        with district.serve() as (process, _):
            district.queue_events(3)
            wait_until(lambda: receiver.requests)
            started = time.monotonic()
            process.terminate()
            assert process.wait(60) == 0
            assert time.monotonic() - started < 30
    with open_store(district.storage, COLLECTIONS) as store:
        assert [(delivery.state, delivery.attempts) for delivery in list_deliveries(store)] == [("pending", ())] * 3
