"""The processes that are measured: commands that run to their end, servers that run meanwhile, and their memory."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

__all__ = [
    "CHALK",
    "YARDSTICK",
    "Failed",
    "Ran",
    "Server",
    "chalk_server",
    "counting_receiver",
    "growth_meanwhile",
    "ran",
    "yardstick_server",
]

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "/ims/oneroster/v1p1"
CHALK = (sys.executable, "-m", "chalk_flask")
RECEIVER = (sys.executable, "-m", "bench.receiver")
YARDSTICK = (sys.executable, "-m", "bench.yardsticks")
LONGEST = 600.0

Result = TypeVar("Result")


class Failed(Exception):
    """A measurement cannot be made; the message says what happened."""


@dataclass(frozen=True)
class Ran:
    """What a command took: wall seconds, and at its peak MiB of memory; and what it printed."""

    seconds: float
    peak_mb: float
    printed: str

    @property
    def json(self) -> Any:
        """What it printed, read."""
        return json.loads(self.printed)


@dataclass(frozen=True)
class Server:
    """A running server: where requests go, and what they carry."""

    pid: int
    port: int
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stays open between requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)

    def get(
        self, path: str, connection: http.client.HTTPConnection | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer to a request, which must be 200. Raises Failed."""
        used = connection or self.connect()
        used.request("GET", self.path + path, headers=dict(self.headers))
        answer = used.getresponse()
        body = answer.read()
        if connection is None:
            used.close()
        if answer.status != 200:
            raise Failed(f"GET {path}: {answer.status} {body[:300]!r}")
        return answer, body


def ran(*words: str | Path) -> Ran:
    """Run a command to its end. Raises Failed when it fails."""
    began = time.perf_counter()
    with _started(*words) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{' '.join(map(str, words[:4]))} ended with {process.returncode}: {printed[:2000]}")
    return Ran(took, usage.ru_maxrss / 1024, printed)


@contextmanager
def chalk_server(storage: str, *more: str) -> Iterator[Server]:
    """The service on a store, with more options, and a token that reads everything."""
    made = ran(*CHALK, "token", "create", "--label", "benchmark", "--scope", "all", "--json", "--storage", storage)
    headers = {"Authorization": f"Bearer {made.json['token']}"}
    command = (*CHALK, "serve", "--port", "0", "--storage", storage, "--log-level", "warning", *more)
    with _started(*command, stderr=subprocess.PIPE) as process, _ended(process):
        port = int(_line(process.stderr, r"Listening on http://[^ ]*:(\d+)"))
        yield Server(process.pid, port, PREFIX, headers)


@contextmanager
def yardstick_server(folder: Path) -> Iterator[Server]:
    """A server that sends the files of a folder ready-made."""
    with _started(*YARDSTICK, "serve", folder) as process, _ended(process):
        yield Server(process.pid, int(_line(process.stdout, r"^(\d+)$")))


@contextmanager
def counting_receiver() -> Iterator[Server]:
    """A server that takes whatever is posted, and answers a GET with how often that was."""
    with _started(*RECEIVER) as process, _ended(process):
        yield Server(process.pid, int(_line(process.stdout, r"^(\d+)$")))


def growth_meanwhile(server: Server, work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of the work, and by how many MiB the server's own memory grew at most meanwhile."""
    before = _resident_mb(server.pid)
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _resident_mb(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    return result, peak - before


def _resident_mb(pid: int) -> float:
    """What is the process's alone: pages of files that it shares are not counted."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found[1]) / 1024 if found else 0.0


def _started(*words: str | Path, stderr: int | None = None) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    if "--storage" in words:  # what is kept beside the store is kept beside it here
        store = str(words[words.index("--storage") + 1]).removeprefix("sqlite:///")
        clean["CHALK_DATA"] = str(Path(store).parent / "data")
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=ROOT,
        env=clean | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _line(stream: IO[str] | None, pattern: str) -> str:
    assert stream is not None
    seen = []
    for line in stream:
        if found := re.search(pattern, line):
            return found[1]
        seen.append(line)
    raise Failed(f"a server ended before it listened: {''.join(seen)[-2000:]}")
