"""Service as an operator runs it: commands and a server as processes, with requests over sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.server_process import free_port

__all__ = ["ROOT", "Response", "RunningService", "run_command", "serve"]

DEMO = ROOT / "chalk_flask" / "demo"
CLEAN_ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}


@dataclass(frozen=True)
class Response:
    """HTTP response with its body as received."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """JSON object in the body, decompressed if necessary."""
        compressed = self.headers.get("Content-Encoding") == "gzip"
        data: dict[str, Any] = json.loads(gzip.decompress(self.body) if compressed else self.body)
        return data

    @property
    def records(self) -> list[dict[str, Any]]:
        """Records in the only collection of the body."""
        [records] = self.json.values()
        assert isinstance(records, list)
        return records


@dataclass(frozen=True)
class RunningService:
    """Running server and a token that can read everything."""

    process: subprocess.Popen[str]
    port: int
    token: str

    def request(self, path: str, method: str = "GET", **headers: str) -> Response:
        """Send a request with the token and return the response; `Authorization=""` omits the token."""
        sent = {"Authorization": f"Bearer {self.token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, headers={name: value for name, value in sent.items() if value})
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())


def run_command(folder: Path, *args: str | Path, exit_code: int = 0) -> str:
    """Run a command in a folder and return its output; fail unless it exits with this code."""
    done = subprocess.run(
        [sys.executable, "-m", "chalk_flask", *args],
        cwd=folder,
        env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == exit_code, done.stderr
    return done.stdout


@contextmanager
def serve(folder: Path, token: str, *args: str | Path, is_public: bool = False) -> Iterator[RunningService]:
    """Run `chalk-flask serve` on a free port until the block ends; then SIGTERM must end it with exit code 0.

    An empty token requires a store in memory: the server prints the token that it creates. With `is_public` the setting
    `public_url` is its own address, which client assertions and OAuth 1.0a require.
    """
    port = free_port() if is_public else 0
    public = ("--public-url", f"http://127.0.0.1:{port}") if is_public else ()
    with subprocess.Popen(
        [sys.executable, "-m", "chalk_flask", "serve", "--port", str(port), *public, *map(str, args)],
        cwd=folder,
        env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            matches = (re.search(r"Listening on http://\S+:(\d+)", line) for line in lines)
            listening = next((match for match in matches if match), None)
            assert listening, "the server ended before it listened"
            if not token:
                token = next(match[1] for line in lines if (match := re.search(r"Bearer (chk_live_\w+)", line)))
            yield RunningService(process, int(listening[1]), token)
            process.terminate()
            assert process.wait(90) == 0
        finally:
            process.kill()


@pytest.fixture(scope="session")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Sample district, imported into SQLite with the command line and served."""
    folder = tmp_path_factory.mktemp("district")
    assert "Imported." in run_command(folder, "import", DEMO)
    token = json.loads(run_command(folder, "token", "create", "--label", "e2e", "--scope", "all", "--json"))["token"]
    with serve(folder, token) as service:
        yield service
