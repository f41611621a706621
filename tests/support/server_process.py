"""Server process that serves a WSGI program on a free port, and raw connections to it."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from tests.support.paths import ROOT

__all__ = [
    "ServerProcess",
    "free_port",
    "read_all",
    "read_response",
    "read_until",
    "send_get",
    "server_process",
    "wait_until_closed",
]

SERVE = """
from chalk_flask.server import serve
from chalk_flask.settings import load_settings
serve(
    app,
    load_settings(),
    lambda url: print(url.rpartition(":")[2], flush=True),
    globals().get("body_limit"),
    classify_request=globals().get("classify_request"),
    watch_commits=globals().get("watch_commits"),
)
"""


PORTS = range(20_000, 30_000)
"""Ports for servers that are started later: below those that systems choose for clients, and for port 0."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that a server can use later."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", random.choice(PORTS))) as listener:
            port: int = listener.getsockname()[1]
            return port


class ServerProcess:
    """Running server. The program prints lines, which `line` returns."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self.line())

    def line(self) -> str:
        """Return the next line that the program printed."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def connect(self, *, source: str = "127.0.0.1", buffer: int = 0) -> socket.socket:
        """Return a connection from a loopback address, with a small receive buffer if `buffer` is set."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(60)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.port))
        return connection

    def get(self, path: str, *headers: str, source: str = "127.0.0.1") -> bytes:
        """Return the body of a GET over a new connection, which must be answered with 200."""
        with self.connect(source=source) as connection:
            send_get(connection, path, *headers, "Connection: close")
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return body


@contextmanager
def server_process(
    app_source: str, after_serving: str = "", captures_log: bool = False, /, **environ: str
) -> Iterator[ServerProcess]:
    """Run a server whose program defines `app`, with settings as CHALK variables, and kill it at the end.

    The program may define `body_limit` and `classify_request`. `after_serving` is source that runs when the server has
    stopped. `captures_log` keeps the standard error.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    with subprocess.Popen(
        [sys.executable, "-c", app_source + SERVE + after_serving],
        cwd=ROOT,
        env=clean | {"CHALK_PORT": "0"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if captures_log else None,
        text=True,
    ) as process:
        try:
            yield ServerProcess(process)
        finally:
            process.kill()


def read_until(stream: IO[str] | None, pattern: str) -> re.Match[str]:
    """Read the output of a process up to the line that matches. An error at its end contains the lines."""
    assert stream is not None
    lines = []
    for line in stream:
        if match := re.search(pattern, line):
            return match
        lines.append(line)
    raise AssertionError(f"the process ended without printing {pattern}:\n{''.join(lines)}")


def send_get(connection: socket.socket, path: str, *headers: str) -> None:
    """Send a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection. A reset counts as the end."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 18):
            parts.append(part)
    return b"".join(parts)


def receive(connection: socket.socket, size: int = 65536) -> bytes:
    """Return the next bytes. Raise EOFError at the end, so that a loop which waits for more cannot be endless."""
    if part := connection.recv(size):
        return part
    raise EOFError("the server has closed the connection")


def read_response(connection: socket.socket) -> bytes:
    """Return head and body of one response with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        part = connection.recv(65536)
        assert part, data
        body += part
    return head + b"\r\n\r\n" + body


def wait_until_closed(connection: socket.socket, seconds: float) -> bool:
    """Return True if the server closes the connection within that time. What it sends is dropped."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False
