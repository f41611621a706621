"""Clients of the mixed load: they send short and long reads, read slowly, pipeline, and disconnect."""

from __future__ import annotations

import http.client
import random
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

__all__ = ["COMPARED_HEADERS", "Client", "Place", "Sample", "Tally", "digest"]

TIMEOUT_SECONDS: Final = 60.0
COMPARED_HEADERS: Final = ("Content-Type", "X-Total-Count", "X-Count", "Link", "WWW-Authenticate")
_VARIABLE = re.compile(rb'"(?:imsx_messageRefIdentifier|dateLastModified)":"[^"]*"')
"""Members that are not compared. An import stamps its records again after the commit, if the commit took long."""


class Sample(NamedTuple):
    """Complete response, and the numbers of the states of the roster between which it was requested and received."""

    first_state: int
    last_state: int
    token: str
    method: str
    path: str
    status: int
    digest: bytes


class Place(NamedTuple):
    """Address of the server, and paths that clients request."""

    port: int
    tokens: Sequence[str]
    short: Sequence[str]
    long: Sequence[str]


@dataclass
class Tally:
    """Results of all clients. `state` is the number of the last state of the roster that is known."""

    samples: list[Sample] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    disconnects: int = 0
    state: int = 0


def digest(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """Return a hash of what two servers must have in common in a response."""
    names = {name.lower() for name in COMPARED_HEADERS}
    compared = sorted((name.lower(), value) for name, value in headers if name.lower() in names)
    return blake2b(repr((status, compared)).encode() + _VARIABLE.sub(b"", body), digest_size=16).digest()


class Client(threading.Thread):
    """Client that sends requests of one kind until it is stopped."""

    def __init__(self, kind: str, place: Place, tally: Tally, seed: int, is_over: threading.Event) -> None:
        super().__init__(name=kind, daemon=True)
        self._kind, self._place, self._tally, self._is_over = kind, place, tally, is_over
        self._rng = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Send requests. A failure ends the client."""
        try:
            while not self._is_over.is_set():
                {"short": self._read_short, "pipeline": self._pipeline, "gone": self._disconnect}.get(
                    self._kind, self._read_long
                )()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self._tally.failures.append(f"{self._kind}: {type(error).__name__} {error}")
        finally:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_short(self) -> None:
        """Read an object or a page, usually on the connection of the former request."""
        if self._rng.random() < 0.1:
            self._close()
        method = "HEAD" if self._rng.random() < 0.05 else "GET"
        started = time.perf_counter()
        self._request(method, self._rng.choice(self._place.short))
        self._tally.seconds.append(time.perf_counter() - started)

    def _read_long(self) -> None:
        """Read a whole collection, or search in texts. A slow client pauses after each part."""
        self._request("GET", self._rng.choice(self._place.long), pause=0.02 if self._kind == "slow" else 0)

    def _request(self, method: str, path: str, pause: float = 0) -> None:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._place.port, timeout=TIMEOUT_SECONDS)
            self._connection.connect()
            if pause:
                self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        token, first = self._rng.choice(self._place.tokens), self._tally.state
        self._connection.request(method, path, headers=self._headers(token))
        response = self._connection.getresponse()
        parts = []
        while part := response.read(1 << 18):
            parts.append(part)
            time.sleep(pause)
        found = digest(response.status, response.getheaders(), b"".join(parts))
        self._note(first, token, method, path, response.status, found, response.getheader("Ran-In", ""))
        if response.will_close:
            self._close()

    def _pipeline(self) -> None:
        """Send several requests at once, and read their responses in order."""
        paths = self._rng.choices(self._place.short, k=self._rng.randint(2, 8))
        token, first = self._rng.choice(self._place.tokens), self._tally.state
        with closing(socket.create_connection(("127.0.0.1", self._place.port), TIMEOUT_SECONDS)) as connection:
            connection.sendall(b"".join(self._raw(path, token) for path in paths))
            data = b""
            for path in paths:
                while b"\r\n\r\n" not in data:
                    data += _receive(connection)
                head, _, data = data.partition(b"\r\n\r\n")
                status, *lines = head.decode("latin-1").split("\r\n")
                headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
                length = int(dict(headers)["Content-Length"])
                while len(data) < length:
                    data += _receive(connection)
                code = int(status.split(" ")[1])
                found = digest(code, headers, data[:length])
                self._note(first, token, "GET", path, code, found, dict(headers)["Ran-In"])
                data = data[length:]

    def _disconnect(self) -> None:
        """Send a request, and close the connection before its response, or within it."""
        path = self._rng.choice(self._rng.choice([self._place.short, self._place.long]))
        with closing(socket.create_connection(("127.0.0.1", self._place.port), TIMEOUT_SECONDS)) as connection:
            if self._rng.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(self._raw(path, self._rng.choice(self._place.tokens)))
            if self._rng.random() < 0.5:
                with suppress(ConnectionResetError):
                    connection.recv(1000)
        self._tally.disconnects += 1
        time.sleep(0.01)

    def _note(self, first: int, token: str, method: str, path: str, status: int, found: bytes, ran_in: str) -> None:
        # An import that is in progress may have been committed already.
        self._tally.samples.append(Sample(first, self._tally.state + 1, token, method, path, status, found))
        self._tally.places[ran_in] = self._tally.places.get(ran_in, 0) + 1

    def _headers(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "Host": "roster.test"}

    def _raw(self, path: str, token: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers(token).items())]
        return "\r\n".join([*lines, "", ""]).encode()


def _receive(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 18)
    assert part, "the connection ended early"
    return part
