"""The service as a district runs it: commands and a server as processes, spoken to over sockets."""

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

__all__ = ["ROOT", "Answer", "Served", "command", "served_by"]

DEMO = ROOT / "chalk_flask" / "demo"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}


@dataclass(frozen=True)
class Answer:
    """What came over the socket."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The object in the body, unzipped if need be."""
        zipped = self.headers.get("Content-Encoding") == "gzip"
        data: dict[str, Any] = json.loads(gzip.decompress(self.body) if zipped else self.body)
        return data

    @property
    def items(self) -> list[dict[str, Any]]:
        """What its only collection holds."""
        [found] = self.json.values()
        assert isinstance(found, list)
        return found


@dataclass(frozen=True)
class Served:
    """A running server and a token that reads everything."""

    process: subprocess.Popen[str]
    port: int
    token: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """The answer to a request with the token, unless another Authorization is given ("": none)."""
        sent = {"Authorization": f"Bearer {self.token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, headers={name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())


def command(folder: Path, *words: str | Path) -> str:
    """What a command prints that ends well, run in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "chalk_flask", *words],
        cwd=folder,
        env=ENVIRON | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served_by(folder: Path, token: str, *words: str | Path) -> Iterator[Served]:
    """`chalk-flask serve` on a free port, until the end; then it has to stop at SIGTERM with exit code 0.

    Without a token it must be a store in memory, for which the server makes one.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "chalk_flask", "serve", "--port", "0", *map(str, words)],
        cwd=folder,
        env=ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            found = next((each for line in lines if (each := re.search(r"Listening on http://\S+:(\d+)", line))), None)
            assert found, "the server ended before it listened"
            if not token:  # a store in memory: the server tells one
                token = next(each[1] for line in lines if (each := re.search(r"Bearer (chk_live_\w+)", line)))
            yield Served(process, int(found[1]), token)
            process.terminate()
            assert process.wait(40) == 0
        finally:
            process.kill()


@pytest.fixture(scope="session")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The sample district, imported into SQLite with the command line and served."""
    folder = tmp_path_factory.mktemp("district")
    assert "Imported." in command(folder, "import", DEMO)
    token = json.loads(command(folder, "token", "create", "--label", "e2e", "--scope", "all", "--json"))["token"]
    with served_by(folder, token) as served:
        yield served
