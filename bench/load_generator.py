"""Load generators: the rate of responses to clients that send the next request as soon as they get a response.

`wrk` is used if it is installed, because it takes little CPU time from the server on the same machine. Otherwise one
thread of Python handles all connections.
"""

from __future__ import annotations

import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from bench.servers import BenchmarkError, Server

__all__ = ["Load", "LoadTool", "choose_load_tool", "measure_load", "response_times"]

LoadTool: TypeAlias = Literal["wrk", "python"]

TIMEOUT_SECONDS: Final = 30.0
CHECK_INTERVAL_SECONDS: Final = 0.1
WRK_SCRIPT: Final = Path(__file__).with_name("wrk_paths.lua")
SECONDS_PER_UNIT: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def choose_load_tool(tool: Literal["auto", "wrk", "python"]) -> LoadTool:
    """Return the load generator to use. Raises BenchmarkError if wrk is requested but not installed."""
    if tool == "python":
        return tool
    if shutil.which("wrk"):
        return "wrk"
    if tool == "wrk":
        raise BenchmarkError("wrk is not on PATH: install it (apt-get install wrk), or use --load python")
    return "python"


class Load(NamedTuple):
    """Responses per second, and the 99th percentile of the response times in seconds."""

    rate: float
    p99_seconds: float


def measure_load(tool: LoadTool, server: Server, paths: Sequence[str], connections: int, seconds: float) -> Load:
    """Return the load that a server bears. The connections take the paths in turn, and begin again after the last.

    A server that completes no response within `seconds` gets more time. Raises BenchmarkError unless all responses are
    200.
    """
    return (_load_by_wrk if tool == "wrk" else _load_by_python)(server, paths, connections, seconds)


def response_times(server: Server, path: str, connections: int, should_continue: Callable[[], bool]) -> list[float]:
    """Return the sorted response times in seconds while `should_continue()` is true; it is called every 0.1 s.

    Raises BenchmarkError unless all responses are 200.
    """
    with _open_clients(server, [path], connections) as (selector, clients):
        while should_continue():
            next_check = time.perf_counter() + CHECK_INTERVAL_SECONDS
            while time.perf_counter() < next_check:
                _handle_responses(selector)
    return sorted(duration for client in clients for duration in client.durations)


def _load_by_wrk(server: Server, paths: Sequence[str], connections: int, seconds: float) -> Load:
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency", *headers]
    base_url = f"http://127.0.0.1:{server.port}"
    if len(paths) == 1:
        output = _run_wrk([*options, base_url + server.path + paths[0]])
    else:
        with tempfile.NamedTemporaryFile("w", encoding="ascii", suffix=".txt") as file:
            file.writelines(f"{server.path}{path}\n" for path in paths)
            file.flush()
            output = _run_wrk([*options, "-s", str(WRK_SCRIPT), base_url, "--", file.name])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"^ +99%\s+([\d.]+)(us|ms|s|m)\s*$", output, re.MULTILINE)
    if rate and float(rate[1]) == 0 and seconds < TIMEOUT_SECONDS:
        return _load_by_wrk(server, paths, connections, max(1, seconds) * 2)
    if rate is None or p99 is None or "Non-2xx" in output or "Socket errors" in output or float(rate[1]) == 0:
        raise BenchmarkError(f"wrk failed for {paths[0]}: {output}")
    return Load(float(rate[1]), float(p99[1]) * SECONDS_PER_UNIT[p99[2]])


def _run_wrk(arguments: Sequence[str]) -> str:
    return subprocess.run(["wrk", *arguments], capture_output=True, text=True, check=False).stdout


def _load_by_python(server: Server, paths: Sequence[str], connections: int, seconds: float) -> Load:
    with _open_clients(server, paths, connections) as (selector, clients):
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or not any(client.durations for client in clients):
            _handle_responses(selector)
    durations = sorted(duration for client in clients for duration in client.durations)
    return Load(len(durations) / elapsed, durations[int(len(durations) * 0.99)])


@contextmanager
def _open_clients(
    server: Server, paths: Sequence[str], connections: int
) -> Iterator[tuple[selectors.BaseSelector, list[_Client]]]:
    headers = {"Host": f"127.0.0.1:{server.port}", **server.headers}
    lines = "\r\n".join([*(f"{name}: {value}" for name, value in headers.items()), "", ""])
    requests = cycle([f"GET {server.path}{path} HTTP/1.1\r\n{lines}".encode() for path in paths])
    with selectors.DefaultSelector() as selector:
        clients = [_Client(server.port, requests) for _ in range(connections)]
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send()
        try:
            yield selector, clients
        finally:
            for client in clients:
                client.socket.close()


def _handle_responses(selector: selectors.BaseSelector) -> None:
    ready = selector.select(TIMEOUT_SECONDS)
    if not ready:
        raise BenchmarkError(f"no response within {TIMEOUT_SECONDS:g} s")
    for key, _ in ready:
        key.data.read()


class _Client:
    """Connection that records the duration of each response and then sends the next of the requests."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.durations: list[float] = []
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._buffer = bytearray(1 << 18)
        self._head = b""
        self._missing_bytes, self._sent_at = 0, 0.0

    def send(self) -> None:
        """Send a request."""
        self._head, self._missing_bytes, self._sent_at = b"", 0, time.perf_counter()
        self.socket.sendall(next(self._requests))

    def read(self) -> None:
        """Read a part of the response; after the last part send the next request."""
        received = self.socket.recv_into(self._buffer)
        if not received:
            raise BenchmarkError("the server closed a connection")
        if self._missing_bytes:
            self._missing_bytes -= received
        else:
            self._head += bytes(self._buffer[:received])
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._missing_bytes = _content_length(head) - len(body)
        if self._missing_bytes <= 0:
            self.durations.append(time.perf_counter() - self._sent_at)
            self.send()


def _content_length(head: bytes) -> int:
    match = _CONTENT_LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or match is None:
        raise BenchmarkError(f"the response is not 200 with a Content-Length: {head[:300]!r}")
    return int(match[1])
