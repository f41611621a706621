"""Command `worker`, as a process: it delivers webhooks that another process does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import RunCommand, StartCommand, stop_process
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder
from tests.support.receiver import respond, run_receiver
from tests.support.server_process import read_until

ALLOWED = ("--webhook-allowed-hosts", "127.0.0.1")


@pytest.mark.slow
def test_worker_delivers_webhooks_that_serve_leaves_to_it(run: RunCommand, start: StartCommand, tmp_path: Path) -> None:
    assert run("import", PackageBuilder().zip(tmp_path / "base.zip")).code == 0
    with run_receiver(respond()) as receiver:
        webhook = run("webhook", "create", "--url", receiver.url, *ALLOWED, "--json").json["id"]
        with start("serve", "--port", "0", "--no-worker", *ALLOWED) as server:
            read_until(server.stderr, "Listening on")
            changed = PackageBuilder().set("orgs", "org-2", name="North").zip(tmp_path / "changed.zip")
            assert run("import", changed).code == 0
            listed = run("webhook", "list")
            assert "No process sends the deliveries, so they wait." in listed.err
            assert run("webhook", "list", "--json").json["worker"] is False
            assert not receiver.requests
            with start("worker", *ALLOWED) as worker:
                read_until(worker.stderr, "worker.started")
                wait_until(lambda: receiver.requests)
                shown = run("webhook", "show", webhook, "--json").json
                assert shown["worker"] is True
                assert "No process" not in run("webhook", "list").err
                assert stop_process(worker) == 0
            assert stop_process(server) == 0


@pytest.mark.parametrize("args", [["worker"], ["serve", "--no-worker"]], ids=" ".join)
def test_store_in_memory_needs_the_worker_of_its_server(args: list[str], run: RunCommand) -> None:
    result = run(*args, "--storage", "memory:")
    assert result.code == 2
    assert "memory: loses its data when this command ends" in result.err
