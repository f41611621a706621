"""Command `serve`, as a process."""

from __future__ import annotations

import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLE, RunCommand, StartCommand, get_json, read_until, stop_process


@pytest.mark.slow
def test_serve_prints_its_url_and_rejects_a_revoked_token(run: RunCommand, start: StartCommand) -> None:
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
def test_port_in_use_is_reported_in_a_line(command: str, run: RunCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run(command, "--port", str(port))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error: cannot listen on host 127.0.0.1, port {port}: ")
