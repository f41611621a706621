"""Command `serve`, as a process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from flask import Flask
from msgspec.structs import replace

from backends import open_store
from chalk_flask.admins import SetupLink
from chalk_flask.cli.local_server import setup_link_text
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import ENVIRON, SAMPLE, RunCommand, StartCommand, get_json, stop_process
from tests.conftest import services_of
from tests.support.server_process import read_until


@pytest.mark.slow
def test_serve_prints_its_url_and_rejects_a_revoked_token(run: RunCommand, start: StartCommand) -> None:
    assert run("import", SAMPLE).code == 0
    created = run("token", "create", "--label", "x", "--json").json
    with start("serve", "--port", "0", "--import", SAMPLE) as process:
        url = read_until(process.stderr, r"Listening on (http://127\.0\.0\.1:[0-9]+)")[1]
        assert len(get_json(f"{url}/ims/oneroster/v1p1/orgs", created["token"])["orgs"]) > 2
        assert run("token", "revoke", created["id"]).code == 0
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get_json(f"{url}/ims/oneroster/v1p1/orgs", created["token"])
        assert stop_process(process) == 0


def test_serve_does_not_start_if_its_package_is_rejected(run: RunCommand, tmp_path: Path) -> None:
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    (package / "users.csv").write_text("nonsense\n")
    result = run("serve", "--storage", "memory:", "--port", "0", "--import", package)
    assert (result.code, result.out) == (1, "")
    assert "Rejected: nothing was changed." in result.err
    assert "users.csv" in result.err
    assert "Listening" not in result.err


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.usefixtures("empty_store")
def test_port_in_use_is_reported_in_a_line(command: str, run: RunCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run(command, "--port", str(port))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error: cannot listen on host 127.0.0.1, port {port}: ")


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory:", "sqlite:///chalk.db"])
def test_serve_prints_a_setup_link_without_administrators(storage: str, start: StartCommand, tmp_path: Path) -> None:
    with start("serve", "--port", "0", "--storage", storage) as process:
        url = read_until(process.stderr, r"Listening on (http://127\.0\.0\.1:[0-9]+)")[1]
        link = read_until(process.stderr, r"Create the first one within 24 hours: (.*)")[1]
        site, _, secret = link.partition("/setup/")
        assert site == url
        if storage != "memory:":
            with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
                assert SetupLink(store).is_valid(secret)
        assert stop_process(process) == 0


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_json_log_contains_json_only(processes: str, start: StartCommand) -> None:
    messages = []
    options = ("--storage", "new.db", "--log-format", "json")
    with start("serve", "--port", "0", "--processes", processes, *options) as process:
        for line in process.stderr:
            messages.append(json.loads(line)["message"])
            if "Create the first one: chalk-flask admin create NAME --operator" in messages[-1]:
                process.terminate()
        assert process.wait(60) == 0
    assert [text.partition(" ")[0] for text in messages if text.startswith(("There is no store", "Listening"))] == [
        "There",
        "Listening",
    ]
    assert not any("/setup/" in text for text in messages)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_journal_contains_a_command_instead_of_the_setup_link(processes: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    status = os.fstat(writer)
    environ = ENVIRON | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    command = [sys.executable, "-m", "chalk_flask", "serve", "--port", "0", "--processes", processes]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=writer) as process, os.fdopen(reader) as journal:
        os.close(writer)
        lines = []
        for line in journal:
            lines.append(line)
            if "Create the first one: chalk-flask admin create NAME --operator" in line:
                process.terminate()
        assert process.wait(60) == 0
    assert "/setup/" not in "".join(lines)


def test_setup_link_is_not_shown_with_an_administrator_or_without_console(app: Flask) -> None:
    services = services_of(app)
    text = setup_link_text(services.settings, services.setup_link, "http://127.0.0.1:8080")
    assert text is not None
    assert services.setup_link.is_valid(text.rpartition("/")[2])
    without_console = replace(services.settings, console=False)
    assert setup_link_text(without_console, services.setup_link, "http://127.0.0.1:8080") is None
    public = replace(services.settings, public_url="https://roster.example.org")
    assert "https://roster.example.org/setup/" in str(setup_link_text(public, services.setup_link, "http://x"))
    services.administrators.create("kim", "viewer", "default", "correct horse battery")
    assert setup_link_text(services.settings, services.setup_link, "http://127.0.0.1:8080") is None


def test_serve_creates_no_folder_and_no_store_without_the_console(run: RunCommand, tmp_path: Path) -> None:
    for args in (("--storage", "nowhere/typo.db"), ("--storage", "typo.db", "--console", "false")):
        result = run("serve", "--port", "0", *args)
        assert result.code == 1
        assert f"there is no store at {tmp_path}/" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_serve_says_that_it_creates_an_empty_store(start: StartCommand, tmp_path: Path) -> None:
    with start("serve", "--port", "0", "--storage", "new.db") as process:
        read_until(process.stderr, f"There is no store at {tmp_path}/new.db: an empty one is created.")
        read_until(process.stderr, "Create the first one within 24 hours")
        assert stop_process(process) == 0


@pytest.mark.slow
def test_serve_logs_in_json_and_shows_its_state(run: RunCommand, start: StartCommand) -> None:
    run("token", "create", "--label", "x")
    with start("serve", "--port", "0", "--log-format", "json", "--log-requests", "true") as process:
        url = read_until(process.stderr, r"Listening on (http://127\.0\.0\.1:[0-9]+)")[1]
        headers = {"X-Request-ID": "7f3a-1"}
        with pytest.raises(urllib.error.HTTPError, match="401") as raised:
            urllib.request.urlopen(urllib.request.Request(f"{url}/ims/oneroster/v1p1/orgs", headers=headers))
        with raised.value as response:
            assert response.headers["X-Request-ID"] == "7f3a-1"
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            metrics = answer.read().decode()
        process.terminate()
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert 'chalk_log_messages_total{level="warning"} ' in metrics
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    requests = [entry for entry in entries if entry.get("event", "").startswith("request.")]
    assert [entry["event"] for entry in requests] == ["request.rejected", "request.completed", "request.completed"]
    assert requests[0]["request_id"] == requests[1]["request_id"] == "7f3a-1"
    ends = [entry for entry in entries if entry.get("event") in ("service.stopping", "service.stopped")]
    assert [entry.get("signal") for entry in ends] == ["SIGTERM", None]
