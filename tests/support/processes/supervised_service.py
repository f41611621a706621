"""`chalk-flask serve` with several processes, its processes, and connections to a certain one of them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from tests.support.deliveries import wait_until
from tests.support.paths import ROOT

__all__ = ["SupervisedService", "connection_to_each", "processes_of", "supervised_service"]

MAX_CONNECTIONS = 64

Result = TypeVar("Result")


def processes_of(pid: int) -> list[int]:
    """Return the ids of the running children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


class SupervisedService:
    """Running service. Its log is in a file, so that it never waits for a reader."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.port = int(self.wait_for_log(r"Listening on http://127\.0\.0\.1:(\d+) ")[1])

    @property
    def log(self) -> str:
        """Text of the log."""
        return self._log.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Return the first match in the log, and wait for it."""
        wait_until(lambda: re.search(pattern, self.log) or self.process.poll() is not None)
        found = re.search(pattern, self.log)
        assert found, self.log
        return found

    def pids(self) -> list[int]:
        """Return the ids of the serving processes."""
        return processes_of(self.process.pid)

    def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """Return status and body of a GET over a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            return get(connection, path, token, "close")
        finally:
            connection.close()

    def from_each(self, request: Callable[[http.client.HTTPConnection], Result]) -> dict[int, Result]:
        """Return the result of a request to each serving process."""
        with connection_to_each(self.port, self.pids()) as connections:
            return {pid: request(connection) for pid, connection in connections.items()}

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def get(
    connection: http.client.HTTPConnection, path: str, token: str = "", persistence: str = "keep-alive"
) -> tuple[int, bytes]:
    """Return status and body of a GET."""
    headers = {"Connection": persistence} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


@contextmanager
def connection_to_each(port: int, pids: list[int]) -> Iterator[dict[int, http.client.HTTPConnection]]:
    """Yield a connection to each process that serves a port. Each has answered a request."""
    found: dict[int, http.client.HTTPConnection] = {}
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            stack.callback(connection.close)
            get(connection, "/healthz")
            assert connection.sock is not None
            found.setdefault(_server_of(connection.sock, pids), connection)
            if len(found) == len(pids):
                yield found
                return
    raise AssertionError(f"{MAX_CONNECTIONS} connections reached {len(found)} of {len(pids)} processes")


def _server_of(client: socket.socket, pids: list[int]) -> int:
    """Return the process at the other end of a connection, as /proc shows it."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(address.partition(":")[2], 16) for address in fields[1:3]]
        if ports == [theirs, ours]:
            return next(pid for pid in pids if _has_socket(pid, fields[9]))
    raise AssertionError("the connection is closed")


def _has_socket(pid: int, inode: str) -> bool:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if path.readlink().name == f"socket:[{inode}]":
                return True
        except OSError:
            continue
    return False


@contextmanager
def supervised_service(folder: Path, *arguments: str, **environ: str) -> Iterator[SupervisedService]:
    """Serve the store `chalk.db` of a folder with two processes, and kill all of them at the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHALK_", "PROMETHEUS_"))}
    log = folder / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", "serve", "--port", "0", "--processes", "2", *arguments],
            cwd=folder,
            env=clean | {"PYTHONPATH": str(ROOT), "CHALK_STORAGE": "chalk.db"} | environ,
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        yield SupervisedService(process, log)
    finally:
        children = processes_of(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
