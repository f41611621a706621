"""Load: how many answers a second a server gives to clients that ask again as soon as they have one.

`wrk` makes it when it is installed, since it takes little of a machine that it shares with the server; otherwise one
thread of Python does, with all of its connections open at once.
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
from typing import Literal, TypeAlias

from bench.processes import Failed, Server

__all__ = ["Maker", "chosen", "rate", "waits"]

Maker: TypeAlias = Literal["wrk", "python"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
PATIENCE = 30.0


def chosen(maker: Literal["auto", "wrk", "python"]) -> Maker:
    """What makes the load. Raises Failed when wrk is wanted and not there."""
    if maker == "python":
        return maker
    if shutil.which("wrk"):
        return "wrk"
    if maker == "wrk":
        raise Failed("wrk is not on PATH: install it (apt-get install wrk), or use --load python")
    return "python"


def rate(maker: Maker, server: Server, path: str, connections: int, seconds: float) -> float:
    """Answers a second over `seconds`, with so many connections. Raises Failed unless all of them are 200."""
    return (_wrk if maker == "wrk" else _python)(server, path, connections, seconds)


def waits(server: Server, path: str, connections: int, going: Callable[[], bool]) -> list[float]:
    """The seconds of each answer, sorted, to clients that ask again at once for as long as this is going.

    `going` is asked ten times a second. Raises Failed unless all answers are 200.
    """
    with _asking(server, path, connections) as (selector, clients):
        while going():
            again = time.perf_counter() + 0.1
            while time.perf_counter() < again:
                _turn(selector)
    return sorted(took for client in clients for took in client.took)


def _wrk(server: Server, path: str, connections: int, seconds: float) -> float:
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", *headers]
    url = f"http://127.0.0.1:{server.port}{server.path}{path}"
    printed = subprocess.run([*command, url], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if found is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise Failed(f"wrk could not load {path}: {printed}")
    return float(found[1])


def _python(server: Server, path: str, connections: int, seconds: float) -> float:
    with _asking(server, path, connections) as (selector, clients):
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds or not any(client.took for client in clients):
            _turn(selector)
    return sum(len(client.took) for client in clients) / passed


@contextmanager
def _asking(server: Server, path: str, connections: int) -> Iterator[tuple[selectors.BaseSelector, list[_Client]]]:
    fields = {"Host": f"127.0.0.1:{server.port}", **server.headers}
    lines = [f"GET {server.path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    request = "\r\n".join(lines).encode()
    with selectors.DefaultSelector() as selector:
        clients = [_Client(server.port, request) for _ in range(connections)]
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        try:
            yield selector, clients
        finally:
            for client in clients:
                client.socket.close()


def _turn(selector: selectors.BaseSelector) -> None:
    ready = selector.select(PATIENCE)
    if not ready:
        raise Failed(f"no answer within {PATIENCE:g} s")
    for key, _ in ready:
        key.data.read()


class _Client:
    """A connection: it asks, notes how long the answer took once it is whole, and asks again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.took: list[float] = []
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._buffer = bytearray(1 << 18)
        self._head = b""
        self._missing, self._asked = 0, 0.0

    def ask(self) -> None:
        self._head, self._missing, self._asked = b"", 0, time.perf_counter()
        self.socket.sendall(self._request)

    def read(self) -> None:
        received = self.socket.recv_into(self._buffer)
        if not received:
            raise Failed("the server closed a connection")
        if self._missing:
            self._missing -= received
        else:
            self._head += bytes(self._buffer[:received])
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._missing = _length(head) - len(body)
        if self._missing <= 0:
            self.took.append(time.perf_counter() - self._asked)
            self.ask()


def _length(head: bytes) -> int:
    found = LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or found is None:
        raise Failed(f"not an answer of known length: {head[:300]!r}")
    return int(found[1])
