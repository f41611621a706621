"""Connections: slow clients miss a deadline, and idle ones make room for others."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.deliveries import wait_until
from tests.support.server_process import (
    ServerProcess,
    read_all,
    read_response,
    send_get,
    server_process,
    wait_until_closed,
)

pytestmark = pytest.mark.slow

# Application that returns the address of the client, the body's length for POST, and an endless stream for /endless.
APP = """
import sys

def endless():
    try:
        while True:
            yield b"x" * 65536
    finally:
        print("closed", flush=True)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/endless":
        start_response("200 OK", [])
        return endless()
    if environ["PATH_INFO"] == "/401":
        start_response("401 Unauthorized", [("Content-Length", "2")])
        return [b"no"]
    body = environ["wsgi.input"].read()
    answer = b"%d" % len(body) if environ["REQUEST_METHOD"] == "POST" else environ["REMOTE_ADDR"].encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""

SHORT = {"CHALK_HEAD_TIMEOUT": "1", "CHALK_BODY_TIMEOUT": "2", "CHALK_CHANNEL_TIMEOUT": "4", "CHALK_SEND_TIMEOUT": "1"}


@pytest.fixture(scope="module")
def impatient() -> Iterator[ServerProcess]:
    with server_process(APP, **SHORT) as started:
        yield started


def is_closed(connection: socket.socket) -> bool:
    """Return True if the server has closed a connection. What it sent is dropped."""
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)
    return True


def drip(connection: socket.socket, data: bytes, seconds: float = 0.1) -> None:
    """Send a byte at a time in the background, until the connection ends."""

    def send() -> None:
        for byte in data:
            try:
                connection.send(bytes([byte]))
            except OSError:
                return
            time.sleep(seconds)

    threading.Thread(target=send, daemon=True).start()


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("at_once", "dripped"),
    [
        (b"", b""),
        (b"", b"\r\n" * 200),
        (HEAD, b"X-Header: " + b"a" * 200),
        (HEAD + b"Content-Length: 300\r\n\r\n", b"a" * 300),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 60),
    ],
    ids=["silent", "blank lines", "head", "body", "chunks"],
)
def test_client_that_sends_too_slowly_is_disconnected(impatient: ServerProcess, at_once: bytes, dripped: bytes) -> None:
    with impatient.connect() as connection:
        connection.sendall(at_once)
        drip(connection, dripped)
        assert wait_until_closed(connection, 25)


def test_body_that_arrives_faster_than_the_minimum_ends_at_its_timeout() -> None:
    with server_process(APP, **SHORT, CHALK_BODY_MIN_RATE="10") as server, server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        began = time.monotonic()
        drip(connection, b"a" * 1000, 0.01)
        assert wait_until_closed(connection, 60)
        assert time.monotonic() - began > 2.5


def test_client_in_time_is_served_after_its_pauses(impatient: ServerProcess) -> None:
    for _ in range(20):
        if is_served_after_pauses(impatient):
            return
    raise AssertionError("the machine is too busy to send a request in time")


def is_served_after_pauses(server: ServerProcess) -> bool:
    """Send two requests with pauses; return False if the machine was too busy to send them in time."""
    with server.connect() as connection:
        for _ in range(2):
            began = time.monotonic()
            try:
                connection.sendall(HEAD)
                time.sleep(0.3)
                connection.sendall(b"Content-Length: 2\r\n\r\na")
                time.sleep(0.3)
                connection.sendall(b"b")
                sent = time.monotonic()
                assert read_response(connection).endswith(b"\r\n\r\n2")
            except (OSError, AssertionError):
                if time.monotonic() - began < 0.9:
                    raise
                return False
            time.sleep(1.8)  # longer than head_timeout, which is for the first request of a connection only
            if time.monotonic() - sent > 3.5:
                return False
    return True


def test_client_with_an_unfinished_request_gets_408_as_json(impatient: ServerProcess) -> None:
    with impatient.connect() as connection:
        connection.sendall(HEAD)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["statusInfoSet"][0]["imsx_codeMajor"] == "failure"


def test_idle_connection_is_closed_after_the_channel_timeout(impatient: ServerProcess) -> None:
    with impatient.connect() as connection:
        began = time.monotonic()
        send_get(connection, "/")
        read_response(connection)
        assert wait_until_closed(connection, 60)
        assert time.monotonic() - began >= 4


def test_client_that_reads_nothing_is_disconnected_and_its_stream_ends(impatient: ServerProcess) -> None:
    with impatient.connect(buffer=4096) as connection:
        send_get(connection, "/endless")
        assert impatient.line() == "closed"


def test_stream_ends_after_its_time_although_the_client_reads() -> None:
    with server_process(APP, CHALK_STREAM_SECONDS="2") as server, server.connect(buffer=4096) as connection:
        send_get(connection, "/endless")

        def read_slowly() -> None:
            try:
                while connection.recv(4096):
                    time.sleep(0.05)
            except OSError:
                return

        threading.Thread(target=read_slowly, daemon=True).start()
        assert server.line() == "closed"


def test_connections_above_the_limit_replace_silent_ones() -> None:
    with server_process(APP, CHALK_CONNECTION_LIMIT="20") as server, ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        send_get(kept, "/")
        read_response(kept)
        silent = [stack.enter_context(server.connect()) for _ in range(60)]
        assert server.get("/") == b"127.0.0.1"
        send_get(kept, "/")
        assert read_response(kept).endswith(b"127.0.0.1")
        wait_until(lambda: sum(map(is_closed, silent)) >= 40)


def test_connections_with_rejected_requests_make_room_for_proven_ones() -> None:
    with server_process(APP, CHALK_CONNECTION_LIMIT="20") as server, ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        send_get(kept, "/")
        read_response(kept)
        for _ in range(60):
            connection = stack.enter_context(server.connect())
            send_get(connection, "/401")
            read_response(connection)
        send_get(kept, "/")
        assert read_response(kept).endswith(b"127.0.0.1")


def test_address_above_its_limit_does_not_close_connections_of_others() -> None:
    with server_process(APP, CHALK_CONNECTION_LIMIT_ADDRESS="5") as server, ExitStack() as stack:
        other = stack.enter_context(server.connect(source="127.0.0.2"))
        silent = [stack.enter_context(server.connect(source="127.0.0.3")) for _ in range(20)]
        assert server.get("/", source="127.0.0.3") == b"127.0.0.3"
        wait_until(lambda: sum(map(is_closed, silent)) >= 15)
        send_get(other, "/")
        assert read_response(other).endswith(b"127.0.0.2")


def test_limit_of_an_address_does_not_apply_to_the_trusted_proxy() -> None:
    settings = {"CHALK_CONNECTION_LIMIT_ADDRESS": "3", "CHALK_TRUSTED_PROXY": "127.0.0.1"}
    with server_process(APP, **settings) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(10)]
        time.sleep(0.5)
        for number, connection in enumerate(connections):
            send_get(connection, "/", f"X-Forwarded-For: 192.0.2.{number}")
            assert read_response(connection).endswith(b"192.0.2.%d" % number)


def test_credential_above_its_limit_loses_its_longest_idle_connections() -> None:
    with server_process(APP, CHALK_CONNECTION_LIMIT_CREDENTIAL="3") as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(6)]
        for connection in connections:
            send_get(connection, "/", "Authorization: Bearer one")
            read_response(connection)
        other = stack.enter_context(server.connect())
        send_get(other, "/", "Authorization: Bearer two")
        read_response(other)
        wait_until(lambda: all(map(is_closed, connections[:3])))
        time.sleep(0.5)
        assert not any(map(is_closed, [*connections[3:], other]))


# Application that takes a second, and rejects each request that had to wait for a thread since the first one began.
BUSY = """
import time
from chalk_flask.server import dispatcher

def app(environ, start_response):
    dispatcher.MAX_QUEUE_SECONDS = 0
    print("begun", flush=True)
    time.sleep(1)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""


def test_request_without_a_free_thread_is_503_with_retry_after() -> None:
    with server_process(BUSY, CHALK_THREADS="1") as server, server.connect() as first, server.connect() as second:
        send_get(first, "/")
        assert server.line() == "begun"
        send_get(second, "/")
        assert read_response(first).endswith(b"done")
        head, _, body = read_all(second).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5" in head
    assert json.loads(body)["error"] == "server_busy"


# The limit of file descriptors is set in the process itself: the application needs a few, and connections the rest.
FEW_DESCRIPTORS = APP + "\nimport resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"


@pytest.mark.parametrize("hard", [64, 1200])
def test_more_connections_than_descriptors_do_not_stop_the_service(hard: int) -> None:
    with server_process(FEW_DESCRIPTORS.format(hard=hard)) as server, ExitStack() as stack:
        for number in range(250):
            stack.enter_context(server.connect(source=f"127.0.0.{number % 50 + 2}"))
        for _ in range(5):
            assert server.get("/") == b"127.0.0.1"
