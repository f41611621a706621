"""Availability: response times of honest clients beside slow, silent and greedy ones.

Run as a program, this module is the clients that misuse the service: `python -m bench.availability KIND COUNT PORT
SECONDS TOKEN`. At the end it prints how many of their connections are still open.
"""

from __future__ import annotations

import http.client
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from bench.figures import Figure
from bench.servers import API_ROOT, CHALK, ROOT, BenchmarkError, Server, chalk_server, run_command

__all__ = ["DEFAULT_HOLD_SECONDS", "measure_availability"]

DEFAULT_HOLD_SECONDS: Final = 40.0
CALM_SECONDS: Final = 5.0
SLOW_CLIENTS: Final = (("silent", 500), ("head", 500), ("body", 500), ("unread", 64), ("sockets", 1100))
STREAMS: Final = 64
FILTERS: Final = 16
STREAM_BYTES_PER_SECOND: Final = 16384
ALTERNATIVES: Final = 100
HONEST_CLIENTS: Final = 4
PAUSE_SECONDS: Final = 0.02
TIMEOUT_SECONDS: Final = 10.0
MIN_LIMIT_SECONDS: Final = 0.06
CALM_FACTOR: Final = 3
PATHS: Final = ("/users?limit=100", "/users/{id}")


@dataclass
class _Times:
    """Response times of honest clients in seconds, and the number of requests without a complete 200."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p99(self) -> float:
        """99th percentile. Failed requests count as the time limit."""
        times = sorted([*self.seconds, *[TIMEOUT_SECONDS] * self.failed])
        return times[int(len(times) * 0.99)]


def measure_availability(storage: str, hold_seconds: float) -> Iterator[Figure]:
    """Yield response times beside each kind of misuse, failed requests, and slow clients that are still connected.

    All clients have the address 127.0.0.1. Those that misuse the service share one token, the others have another.
    """
    token = run_command(
        *CHALK, "token", "create", "--label", "misuse", "--scope", "all", "--json", "--storage", storage
    )
    with chalk_server(storage) as server:
        users = server.get("/users?limit=1")[1]
        paths = [path.format(id=users.split(b'"sourcedId":"')[1].split(b'"')[0].decode()) for path in PATHS]
        calm = _measure(server, paths, min(CALM_SECONDS, hold_seconds))
        limit = max(CALM_FACTOR * calm.p99, MIN_LIMIT_SECONDS)
        measure = _Misuse(server, paths, token.json["token"], hold_seconds)
        yield Figure("availability.calm", calm.p99 * 1e3, "ms, 99th percentile of pages and single reads alone")
        for kind, count in SLOW_CLIENTS:
            times = measure.beside(kind, count)
            note = f"{times.p99 * 1e3:.1f} ms beside {count} clients, over the limit of {limit * 1e3:.0f} ms"
            yield Figure(f"availability.{kind}", times.p99 / limit, note)
        yield Figure("availability.dripping", measure.dripping, f"of 1,000 slow senders after {hold_seconds:g} s")
        for kind, count in (("stream", STREAMS), ("filter", FILTERS)):
            times = measure.beside(kind, count)
            note = f"ms, 99th percentile beside {count} clients of another token"
            yield Figure(f"availability.{kind}", times.p99 * 1e3, note)
        yield Figure("availability.failed", measure.failed, f"of {measure.requests:,} pages and single reads")


class _Misuse:
    """Measurement beside clients that misuse the service."""

    def __init__(self, server: Server, paths: Sequence[str], token: str, hold_seconds: float) -> None:
        self._server = server
        self._paths = paths
        self._token = token
        self._hold_seconds = hold_seconds
        self.failed = 0
        self.requests = 0
        self.dripping = 0

    def beside(self, kind: str, count: int) -> _Times:
        """Return the response times of honest clients beside `count` clients of a kind."""
        arguments = (kind, str(count), str(self._server.port), str(self._hold_seconds), self._token)
        command = [sys.executable, "-m", "bench.availability", *arguments]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            times = _measure(self._server, self._paths, self._hold_seconds)
            output, _ = process.communicate(timeout=self._hold_seconds + 120)
        if process.returncode:
            raise BenchmarkError(f"the {kind} clients failed")
        self.dripping += int(output) if kind in ("head", "body") else 0
        self.failed += times.failed
        self.requests += times.failed + len(times.seconds)
        return times


def _measure(server: Server, paths: Sequence[str], seconds: float) -> _Times:
    times, end = _Times(), time.perf_counter() + seconds
    clients = [
        threading.Thread(target=_read, args=(server, paths, end, times, number % 2 == 0))
        for number in range(HONEST_CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return times


def _read(server: Server, paths: Sequence[str], end: float, times: _Times, keeps_connection: bool) -> None:
    """Read pages and single objects in turn, with pauses, on one connection or a new one for each request."""
    connection: http.client.HTTPConnection | None = None
    turn = 0
    while (started := time.perf_counter()) < end:
        turn += 1
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        try:
            server.get(paths[turn % len(paths)], connection)
            times.seconds.append(time.perf_counter() - started)
        except (OSError, http.client.HTTPException, BenchmarkError):
            times.failed += 1
            keeps_now = False
        else:
            keeps_now = keeps_connection
        if not keeps_now:
            connection.close()
            connection = None
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Misuse the service, and print the number of connections that are still open."""
    kind, count, port, seconds, token = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    clients = [_SlowClient(kind, int(port), token, number) for number in range(int(count))]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.connect()
            if kind not in ("unread", "stream"):
                selector.register(client.socket, selectors.EVENT_READ, client)
        next_turn = time.monotonic()
        while (now := time.monotonic()) < end:
            for key, _ in selector.select(max(0.0, min(next_turn, end) - now)):
                key.data.receive(selector)
            if time.monotonic() >= next_turn:
                next_turn += 1
                for client in clients:
                    client.take_turn()
    print(sum(client.is_open for client in clients))


class _SlowClient:
    """Connection of one kind: silent, dripping, not reading, reading slowly, or sending expensive filters."""

    def __init__(self, kind: str, port: int, token: str, number: int) -> None:
        self.socket = socket.socket()
        self.is_open = False
        self._kind = kind
        self._port = port
        self._token = token
        self._number = number

    def connect(self) -> None:
        """Connect and send the beginning of a request."""
        with suppress(OSError):
            if self._kind in ("unread", "stream"):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STREAM_BYTES_PER_SECOND)
            self.socket.settimeout(TIMEOUT_SECONDS)
            self.socket.connect(("127.0.0.1", self._port))
            self.socket.setblocking(False)
            self.is_open = True
            self._send(self._beginning())

    def take_turn(self) -> None:
        """Send a byte or read a little, once per second."""
        if not self.is_open:
            return
        if self._kind in ("head", "body"):
            self._send(b"a")
        elif self._kind == "stream":
            with suppress(BlockingIOError):
                self._note(self.socket.recv(STREAM_BYTES_PER_SECOND))

    def receive(self, selector: selectors.BaseSelector) -> None:
        """Receive data; after a response to a filter send another one."""
        data = b""
        with suppress(OSError):
            data = self.socket.recv(1 << 20)
        self._note(data)
        if not self.is_open:
            selector.unregister(self.socket)
            self.socket.close()
        elif self._kind == "filter" and b"HTTP/1.1 " in data:
            self._number += FILTERS
            self._send(self._beginning())

    def _note(self, received: bytes) -> None:
        self.is_open = bool(received)

    def _send(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except OSError:
            self.is_open = False

    def _beginning(self) -> bytes:
        host = b"Host: x\r\n"
        match self._kind:
            case "silent" | "sockets":
                return b""
            case "head":
                return b"GET / HTTP/1.1\r\n" + host + b"X-Slow: "
            case "body":
                return b"POST /oauth/token HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n\r\n"
        path = (
            "/users?limit=1000000"
            if self._kind != "filter"
            else f"/users?limit=100&sort=familyName&filter={self._filter()}"
        )
        return f"GET {API_ROOT}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode()

    def _filter(self) -> str:
        """Return two clauses with many alternatives that no index helps, different for each request."""
        values = ",".join(f"{self._number}-{n}x" for n in range(ALTERNATIVES))
        return quote(f"userIds.identifier~'{values}' OR orgs.sourcedId~'{values}'")


if __name__ == "__main__":
    main()
