"""Large bodies: who may send one, how many at once, how slowly, and what the application learns of the others."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.deliveries import wait_until
from tests.support.server_process import ServerProcess, read_all, read_response, server_process, wait_until_closed

pytestmark = pytest.mark.slow

# WSGI application that returns the size of the body, and the peak of its memory in KiB. The cookie is the limit.
PROGRAM = """
import json

def body_limit(head):
    assert head.method == "POST"
    if head.path != "/upload":
        return None
    return int(head.headers["COOKIE"])

def app(environ, start_response):
    size = 0
    while chunk := environ["wsgi.input"].read(65536):
        size += len(chunk)
    status = open("/proc/self/status").read()
    peak = int(status.partition("VmHWM:")[2].split()[0])
    body = json.dumps({
        "size": size,
        "length": environ.get("CONTENT_LENGTH"),
        "rejected": environ.get("chalk_flask.body_rejected"),
        "peak": peak,
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

MIB = 1 << 20
LIMIT = 100 * MIB


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(PROGRAM) as process:
        yield process


def begin(server: ServerProcess, size: int, *headers: str, path: str = "/upload", source: str = "127.0.0.1") -> Any:
    """Return a connection that has sent the head of an upload."""
    connection = server.connect(source=source)
    cookie = () if any(header.startswith("Cookie:") for header in headers) else (f"Cookie: {LIMIT}",)
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *cookie, *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def begin_admitted(server: ServerProcess, source: str) -> Any:
    """Return a connection whose upload the server has admitted."""
    connection = begin(server, 2 * MIB, "Expect: 100-continue", source=source)
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


def result(connection: socket.socket) -> dict[str, Any]:
    head, _, body = read_response(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    data: dict[str, Any] = json.loads(body)
    return data


def upload(server: ServerProcess, size: int, *headers: str, source: str = "127.0.0.1") -> dict[str, Any]:
    with begin(server, size, *headers, source=source) as connection:
        connection.sendall(bytes(size))
        return result(connection)


def test_admitted_body_reaches_the_application(server: ServerProcess) -> None:
    size = 5 * MIB
    response = upload(server, size)
    assert (response["size"], response["length"], response["rejected"]) == (size, str(size), None)


@pytest.mark.parametrize("limit", [0, 5 * MIB - 1])
def test_body_above_its_limit_is_dropped_and_answered(limit: int, server: ServerProcess) -> None:
    with begin(server, 5 * MIB, f"Cookie: {limit}") as connection:
        connection.sendall(bytes(5 * MIB))
        response = result(connection)
        assert (response["size"], response["length"], response["rejected"]) == (0, "0", "too_large")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert result(connection)["rejected"] is None, "the connection stays usable"


@pytest.mark.parametrize("head", [("/other", "Content-Length: 5000000"), ("/upload", "Transfer-Encoding: chunked")])
def test_other_large_bodies_are_rejected(head: tuple[str, str], server: ServerProcess) -> None:
    path, length = head
    with server.connect() as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nCookie: {LIMIT}\r\n{length}\r\n\r\n".encode())
        if "chunked" in length:
            connection.sendall(b"200000\r\n" + bytes(2 * MIB) + b"\r\n0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_invalid_cookie_is_answered_by_the_application(server: ServerProcess) -> None:
    assert upload(server, 2 * MIB, "Cookie: x")["rejected"] == "too_large"


def test_client_that_waits_for_a_permission_sends_no_rejected_body(server: ServerProcess) -> None:
    with begin(server, 5 * MIB, "Cookie: 0", "Expect: 100-continue") as connection:
        assert result(connection)["rejected"] == "too_large"
        assert wait_until_closed(connection, 10)
    with begin(server, 5 * MIB, "Expect: 100-continue") as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(bytes(5 * MIB))
        assert result(connection)["size"] == 5 * MIB


def test_address_and_server_have_a_limited_number_of_uploads(server: ServerProcess) -> None:
    with ExitStack() as stack:
        for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
            stack.enter_context(begin_admitted(server, source))
        assert upload(server, 2 * MIB)["rejected"] == "busy"
        last = stack.enter_context(begin_admitted(server, "127.0.0.2"))
        assert upload(server, 2 * MIB, source="127.0.0.3")["rejected"] == "busy"
        last.sendall(bytes(2 * MIB))
        assert result(last)["rejected"] is None
        wait_until(lambda: upload(server, 2 * MIB, source="127.0.0.3")["rejected"] is None)  # its place is free
    wait_until(lambda: upload(server, 2 * MIB)["rejected"] is None)  # the others were cut off


def test_ten_uploads_at_once_are_all_answered(server: ServerProcess) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(begin(server, 2 * MIB)) for _ in range(10)]
        for connection in connections:
            connection.sendall(bytes(2 * MIB))
        rejected = [result(connection)["rejected"] for connection in connections]
    assert set(rejected) == {None, "busy"}
    assert rejected.count(None) >= 2


def test_upload_needs_little_memory() -> None:
    with server_process(PROGRAM) as server:
        before = upload(server, 2 * MIB)["peak"]
        response = upload(server, 60 * MIB)
    assert response["size"] == 60 * MIB
    assert response["peak"] - before < 20 * 1024


def test_slow_upload_may_take_longer_than_other_bodies() -> None:
    limits = {"CHALK_BODY_TIMEOUT": "1", "CHALK_HEAD_TIMEOUT": "1", "CHALK_BODY_MIN_RATE": "1000"}
    with server_process(PROGRAM, **limits) as server, begin(server, 2 * MIB) as connection:
        for _ in range(8):
            connection.sendall(bytes(10_000))
            time.sleep(0.5)
        connection.sendall(bytes(2 * MIB - 80_000))
        assert result(connection)["size"] == 2 * MIB
        with begin(server, 2 * MIB) as stalled:
            stalled.sendall(bytes(1000))
            assert read_all(stalled).startswith(b"HTTP/1.1 408 ")


def test_upload_is_dropped_when_the_temporary_folder_is_full() -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, -1))\n"
    with server_process(limit + PROGRAM) as server:
        response = upload(server, 5 * MIB)
        assert (response["size"], response["rejected"]) == (0, "disk_full")
