"""The service beside clients that misuse it: honest requests succeed, and slow senders are disconnected."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.district import write_package
from bench.servers import CHALK, run_command
from tests.support.api_client import IMS
from tests.support.paths import ROOT

HOLD_SECONDS = 13
"""Longer than head_timeout, so that slow senders miss it."""
MAX_RATIO, MAX_MILLISECONDS = 30.0, 2000.0
"""Generous bounds, which a busy machine keeps, and which a server without free threads does not."""


@pytest.mark.slow
def test_honest_clients_are_served_beside_clients_that_misuse(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--users", "1000", "--only", "availability", "--load", "python"]
    completed = subprocess.run(
        [*command, "--hold", str(HOLD_SECONDS), "--json", tmp_path / "figures.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert completed.returncode == 0, completed.stderr
    sys.stdout.write(completed.stdout)  # the figures, which pytest shows with -s
    figures: dict[str, float] = json.loads((tmp_path / "figures.json").read_text())
    assert figures["availability.failed"] == 0
    assert figures["availability.dripping"] == 0
    for kind in ("silent", "head", "body", "unread", "sockets"):
        assert figures[f"availability.{kind}"] < MAX_RATIO, completed.stdout
    for kind in ("stream", "filter"):
        assert figures[f"availability.{kind}"] < MAX_MILLISECONDS, completed.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("district") / "district.zip"
    write_package(9_000, path)  # about 7 MB of users, more than the buffers of a socket hold
    return path


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "memory"])
def test_slow_readers_get_complete_collections(package: Path, tmp_path: Path, storage: str) -> None:
    url = f"sqlite:///{tmp_path}/chalk.db" if storage == "sqlite" else "memory:"
    command = [sys.executable, "-m", "chalk_flask", "serve", "--storage", url, "--port", "0", "--threads", "2"]
    settings = {"CHALK_QUERY_MILLISECONDS": "4000", "CHALK_DATA": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    if storage == "sqlite":
        run_command(*CHALK, "import", package, "--storage", url)
        token = run_command(*CHALK, "token", "create", "--label", "a", "--json", "--storage", url).json["token"]
    else:
        command += ["--import", str(package)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            port = int(next(match[1] for line in process.stderr if (match := re.search(r"//[^ ]*:(\d+)", line))))
            if storage == "memory":
                token = next(match[1] for line in process.stderr if (match := re.search(r"Bearer ([^\"]+)", line)))
            with ThreadPoolExecutor(6) as pool:
                slow = [pool.submit(read_slowly, port, token, 3.0) for _ in range(5)]
                while not all(reader.done() for reader in slow):
                    assert read_slowly(port, token, 0.0, "/users?limit=1") == 1
                assert {reader.result() for reader in slow} == {9_000}
        finally:
            process.kill()


def read_slowly(port: int, token: str, pause: float, path: str = "/users?limit=1000000") -> int:
    """Return the number of users in a response. The client pauses three times while it reads."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", port))
        head = f"GET {IMS}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 200
            parts = []
            for _ in range(3):
                time.sleep(pause)
                parts.append(response.read(1 << 20))
            parts.append(response.read())
    return len(json.loads(b"".join(parts))["users"])
