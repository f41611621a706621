"""Channel: responses are sent in one piece if they fit, and complete and in order if not."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

# Application that returns SIZE bytes in blocks of BLOCK bytes for /SIZE/BLOCK, and an empty response for /0/1/STATUS.
PROGRAM = """
import hashlib, sys
from chalk_flask.server import serve
from chalk_flask.settings import load_settings

def body(size):
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32 + 1))[:size]

def app(environ, start_response):
    size, block, *status = map(int, environ["PATH_INFO"].strip("/").split("/"))
    if status:
        start_response(f"{status[0]} Requested", [])
        return []
    content = body(size)
    if environ["REQUEST_METHOD"] == "HEAD" and block < size:
        start_response("200 OK", [])
        return []
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    return [content[start:start + block] for start in range(0, size, block)]

serve(app, load_settings(), lambda url: print(url, flush=True))
"""


def expected(size: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32 + 1))[:size]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environ | {"CHALK_PORT": "0"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    match = re.search(r":(\d+)$", process.stdout.readline().strip())
    assert match
    yield int(match[1])
    process.kill()
    process.communicate()


def send_request(port: int, path: str, method: str = "GET", buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def receive(connection: socket.socket, size: int, pause: float = 0) -> bytes:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0 or len(data) < end + 4 + size:
        part = connection.recv(65536)
        assert part, "the connection ended early"
        data += part
        time.sleep(pause)
    return data


def test_short_response_is_sent_in_one_piece(port: int) -> None:
    with send_request(port, "/500/500") as connection:
        time.sleep(0.3)
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == expected(500)


@pytest.mark.parametrize("block", [1, 4_000, 300_000, 3_000_000])
@pytest.mark.parametrize("size", [2_000, 3_000_000])
def test_response_is_complete_for_every_block_size(port: int, size: int, block: int) -> None:
    if size // block > 10_000:
        block = 1_000
    with send_request(port, f"/{size}/{block}") as connection:
        assert receive(connection, size).partition(b"\r\n\r\n")[2] == expected(size)


def test_slow_client_receives_every_byte(port: int) -> None:
    with send_request(port, "/6000000/700000", buffer=4096) as connection:
        time.sleep(0.5)  # until every buffer is full
        assert receive(connection, 6_000_000, pause=0.0005).partition(b"\r\n\r\n")[2] == expected(6_000_000)


def test_responses_on_one_connection_keep_their_order(port: int) -> None:
    with send_request(port, "/700/700", "HEAD") as connection:
        assert receive(connection, 0).endswith(b"\r\n\r\n")
        for size in (10, 90_000, 20):
            connection.sendall(f"GET /{size}/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert receive(connection, size).partition(b"\r\n\r\n")[2] == expected(size)
        connection.sendall(b"GET /5/5 HTTP/1.1\r\nHost: x\r\n\r\nGET /7/7 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while data.count(b"HTTP/1.1 200") < 2 or not data.endswith(expected(7)):
            part = connection.recv(65536)
            assert part, "the server has closed the connection"
            data += part
        assert data.index(b"\r\n\r\n" + expected(5)) < data.index(b"\r\n\r\n" + expected(7))


@pytest.mark.parametrize("path", ["/9000/100", "/9000/9000", "/0/1/304", "/0/1/204"])
def test_response_without_body_keeps_the_connection(port: int, path: str) -> None:
    method = "GET" if path.count("/") == 3 else "HEAD"
    with send_request(port, path, method) as connection:
        head = receive(connection, 0)
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1
        assert b"connection:" not in head.lower()
        assert b"transfer-encoding:" not in head.lower()
        connection.sendall(b"GET /7/7 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive(connection, 7).endswith(b"\r\n\r\n" + expected(7))


def test_request_with_two_lengths_is_rejected_and_the_rest_unread(port: int) -> None:
    smuggled = b"0\r\n\r\nGET /7/7 HTTP/1.1\r\nHost: x\r\n\r\n"
    first = b"Content-Length: %d\r\nTransfer-Encoding: chunked"
    for names in (first, b"transfer-encoding : chunked\r\nCONTENT-LENGTH:%d"):
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            head = b"POST /5/5 HTTP/1.1\r\nHost: x\r\n" + names % len(smuggled) + b"\r\n\r\n"
            connection.sendall(head + smuggled)
            data = b""
            while part := connection.recv(65536):
                data += part
        assert data.startswith(b"HTTP/1.0 400 ")
        assert data.count(b"HTTP/1.") == 1
