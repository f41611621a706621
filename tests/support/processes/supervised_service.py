"""`chalk-flask serve` with several processes, its processes, and connections to a certain one of them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from tests.support.deliveries import wait_until
from tests.support.paths import ROOT

__all__ = [
    "PATIENCE_SECONDS",
    "SupervisedService",
    "connection_to_each",
    "processes_of",
    "serving_processes",
    "supervised_service",
    "wait_patiently",
]

PATIENCE_SECONDS = 120.0
"""Maximum time to wait for processes, also on a machine that does much else."""

Result = TypeVar("Result")


def wait_patiently(condition: Callable[[], object]) -> None:
    """Wait until the condition is true; fail after PATIENCE_SECONDS."""
    wait_until(condition, PATIENCE_SECONDS)


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
        wait_patiently(lambda: re.search(pattern, self.log) or self.process.poll() is not None)
        found = re.search(pattern, self.log)
        assert found, self.log
        return found

    def pids(self) -> list[int]:
        """Return the ids of the serving processes."""
        return processes_of(self.process.pid)

    def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """Return status and body of a GET over a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return get(connection, path, token, "close")
        finally:
            connection.close()

    def from_each(self, request: Callable[[http.client.HTTPConnection], Result]) -> dict[int, Result]:
        """Return the result of a request to each serving process."""
        with connection_to_each(self.port, self.pids()) as connections:
            return {pid: request(connection) for pid, connection in connections.items()}

    def reload(self) -> None:
        """Send SIGHUP, and wait until new processes serve."""
        count = self.log.count("service.reloaded")
        self.process.send_signal(signal.SIGHUP)
        wait_patiently(lambda: self.log.count("service.reloaded") > count)


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
    end = time.monotonic() + PATIENCE_SECONDS
    with ExitStack() as stack:
        while len(found) < len(pids):
            assert time.monotonic() < end, f"connections reached {len(found)} of {len(pids)} processes"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            get(connection, "/healthz")
            assert connection.sock is not None
            pid = _server_of(connection.sock, pids)
            if pid == 0 or pid in found:
                connection.close()
            else:
                found[pid] = connection
                stack.callback(connection.close)
        yield found


def serving_processes(port: int, pids: list[int]) -> set[int]:
    """Return those of these processes that answer some of 20 requests."""
    found = set()
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        get(connection, "/healthz")
        assert connection.sock is not None
        found.add(_server_of(connection.sock, pids))
        connection.close()
    return found - {0}


def _server_of(client: socket.socket, pids: list[int]) -> int:
    """Return the process at the other end of a connection, as /proc shows it; 0 if it is none of these."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(address.partition(":")[2], 16) for address in fields[1:3]]
        if ports == [theirs, ours]:
            return next((pid for pid in pids if _has_socket(pid, fields[9])), 0)
    return 0


def _has_socket(pid: int, inode: str) -> bool:
    try:
        return any(path.readlink().name == f"socket:[{inode}]" for path in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # a file was closed meanwhile, or the process has ended
        return False


@contextmanager
def supervised_service(
    folder: Path, *arguments: str, processes: int = 2, **environ: str
) -> Iterator[SupervisedService]:
    """Serve the store `chalk.db` of a folder with two processes, or with one, which has no supervisor.

    At the end, the supervisor is killed if it still runs, and none of its processes may be left then.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHALK_", "PROMETHEUS_"))}
    log = folder / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", "serve", "--port", "0", "--processes", str(processes), *arguments],
            cwd=folder,
            env=clean | {"PYTHONPATH": str(ROOT), "CHALK_STORAGE": "chalk.db"} | environ,
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        service = SupervisedService(process, log)
        if processes > 1:
            wait_patiently(lambda: len(service.pids()) >= processes)
            with connection_to_each(service.port, service.pids()):
                pass  # all serve
        yield service
    finally:
        children = processes_of(process.pid)
        process.kill()
        process.wait()
        wait_patiently(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
