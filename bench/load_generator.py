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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from bench.servers import BenchmarkError, Server

__all__ = ["LoadTool", "choose_load_tool", "request_rate", "response_times"]

LoadTool: TypeAlias = Literal["wrk", "python"]

TIMEOUT_SECONDS: Final = 30.0
CHECK_INTERVAL_SECONDS: Final = 0.1
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


def request_rate(tool: LoadTool, server: Server, path: str, connections: int, seconds: float) -> float:
    """Return the responses per second of that number of connections. Raises BenchmarkError unless all are 200."""
    return (_rate_by_wrk if tool == "wrk" else _rate_by_python)(server, path, connections, seconds)


def response_times(server: Server, path: str, connections: int, should_continue: Callable[[], bool]) -> list[float]:
    """Return the sorted response times in seconds while `should_continue()` is true; it is called every 0.1 s.

    Raises BenchmarkError unless all responses are 200.
    """
    with _open_clients(server, path, connections) as (selector, clients):
        while should_continue():
            next_check = time.perf_counter() + CHECK_INTERVAL_SECONDS
            while time.perf_counter() < next_check:
                _handle_responses(selector)
    return sorted(duration for client in clients for duration in client.durations)


def _rate_by_wrk(server: Server, path: str, connections: int, seconds: float) -> float:
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", *headers]
    url = f"http://127.0.0.1:{server.port}{server.path}{path}"
    output = subprocess.run([*command, url], capture_output=True, text=True, check=False).stdout
    match = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if match is None or "Non-2xx" in output or "Socket errors" in output:
        raise BenchmarkError(f"wrk failed for {path}: {output}")
    return float(match[1])


def _rate_by_python(server: Server, path: str, connections: int, seconds: float) -> float:
    with _open_clients(server, path, connections) as (selector, clients):
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or not any(client.durations for client in clients):
            _handle_responses(selector)
    return sum(len(client.durations) for client in clients) / elapsed


@contextmanager
def _open_clients(
    server: Server, path: str, connections: int
) -> Iterator[tuple[selectors.BaseSelector, list[_Client]]]:
    headers = {"Host": f"127.0.0.1:{server.port}", **server.headers}
    lines = [f"GET {server.path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    request = "\r\n".join(lines).encode()
    with selectors.DefaultSelector() as selector:
        clients = [_Client(server.port, request) for _ in range(connections)]
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
    """Connection that records the duration of each response and then sends the next request."""

    def __init__(self, port: int, request: bytes) -> None:
        self.durations: list[float] = []
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._buffer = bytearray(1 << 18)
        self._head = b""
        self._missing_bytes, self._sent_at = 0, 0.0

    def send(self) -> None:
        """Send a request."""
        self._head, self._missing_bytes, self._sent_at = b"", 0, time.perf_counter()
        self.socket.sendall(self._request)

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
