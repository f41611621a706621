"""Parked responses: streams to slow clients and long polls leave the threads to others."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.server_process import ServerProcess, read_all, read_response, receive, send_get, server_process

pytestmark = pytest.mark.slow

# Application that streams 16 MB for /stream and fails after 8 MB for /fail. /wait/SECONDS is answered after that
# time or after /release, and yields b"" until then. /block is one block of 8 MB.
APP = """
import threading, time

released = threading.Event()

def stream(count, fails):
    try:
        for number in range(count):
            yield (b"%07d\\n" % number) * 8192
        if fails:
            raise ValueError
    finally:
        print("closed", flush=True)

def wait(seconds, start_response):
    until = time.monotonic() + seconds
    print("begun", flush=True)
    try:
        while time.monotonic() < until and not released.is_set():
            yield b""
        start_response("200 OK", [("Content-Length", "5")])
        yield b"ready"
    finally:
        print("closed", flush=True)

def app(environ, start_response):
    kind, _, argument = environ["PATH_INFO"][1:].partition("/")
    if kind == "wait":
        assert environ["chalk_flask.waits_without_thread"]
        return wait(float(argument), start_response)
    if kind in ("stream", "fail"):
        start_response("200 OK", [])
        return stream(256 if kind == "stream" else 128, kind == "fail")
    if kind == "release":
        released.set()
    body = b"quick" if kind == "quick" else b"x" * 8_000_000
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

STREAM = b"".join(b"%07d\n" % number * 8192 for number in range(256))


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with server_process(APP, CHALK_THREADS="2") as started:
        yield started


def unchunk(body: bytes) -> bytes:
    """Return the content of a chunked body, which must be complete."""
    parts: list[bytes] = []
    start = 0
    while True:
        line_end = body.index(b"\r\n", start)
        size, start = int(body[start:line_end], 16), line_end + 2
        if not size:
            assert body[start:] == b"\r\n"
            return b"".join(parts)
        parts.append(body[start : start + size])
        start += size + 2


def test_slow_readers_occupy_no_thread_and_lose_nothing(server: ServerProcess) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(server.connect(buffer=65536)) for _ in range(8)]
        for reader in readers:
            send_get(reader, "/stream")
        for _ in range(20):
            assert server.get("/quick") == b"quick"
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda reader=reader: answers.append(read_all(reader))) for reader in readers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(answers) == 8
    for answer in answers:
        assert unchunk(answer.partition(b"\r\n\r\n")[2]) == STREAM
    assert [server.line() for _ in range(8)] == ["closed"] * 8


def test_stream_of_a_client_that_disconnects_is_closed(server: ServerProcess) -> None:
    for _ in range(3):
        with server.connect(buffer=4096) as reader:
            send_get(reader, "/stream")
            assert reader.recv(10)
        assert server.line() == "closed"
    assert server.get("/quick") == b"quick"


def test_stream_that_fails_is_cut_off_and_closed(server: ServerProcess) -> None:
    with server.connect() as reader:
        send_get(reader, "/fail")
        answer = read_all(reader)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")
    assert server.line() == "closed"


def test_waiting_requests_occupy_no_thread_and_keep_their_connection(server: ServerProcess) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in waiting:
            send_get(connection, "/wait/600")
        assert [server.line() for _ in range(20)] == ["begun"] * 20
        for _ in range(10):
            assert server.get("/quick") == b"quick"
        server.get("/release")
        for connection in waiting:
            assert read_response(connection).endswith(b"\r\n\r\nready")
            send_get(connection, "/quick")
            assert read_response(connection).endswith(b"\r\n\r\nquick")
    assert [server.line() for _ in range(20)] == ["closed"] * 20


# The same application, whose waiting responses are asked again by chance only after ten minutes. /commit is the store.
WOKEN_APP = f"""
import chalk_flask.server.listener

chalk_flask.server.listener.APPLICATION_POLL_SECONDS = 600
watchers = []
watch_commits = watchers.append
{APP.replace("def app(", "def other_requests(")}
def app(environ, start_response):
    if environ["PATH_INFO"] != "/commit":
        return other_requests(environ, start_response)
    for on_commit in watchers:
        on_commit()
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""


def test_waiting_requests_go_on_when_the_store_reports_a_commit() -> None:
    with server_process(WOKEN_APP) as server, ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(5)]
        for connection in waiting:
            send_get(connection, "/wait/600")
        assert [server.line() for _ in range(5)] == ["begun"] * 5
        server.get("/commit")
        server.get("/release")
        while waiting:
            server.get("/commit")  # again, because a response that is not parked yet misses one
            for connection in select.select(waiting, [], [], 0.02)[0]:
                assert read_response(connection).endswith(b"\r\n\r\nready")
                waiting.remove(connection)
        server.get("/commit")


@pytest.mark.parametrize("is_reset", [False, True])
def test_waiting_request_of_a_client_that_has_gone_is_closed(server: ServerProcess, is_reset: bool) -> None:
    began = time.monotonic()
    with server.connect() as connection:
        send_get(connection, "/wait/300")
        assert server.line() == "begun"
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.line() == "closed"
    assert time.monotonic() - began < 150, "the request would wait for 300 s"
    assert server.get("/quick") == b"quick"


def test_pipelined_request_follows_a_parked_one(server: ServerProcess) -> None:
    with server.connect() as connection:
        send_get(connection, "/wait/0.3")
        send_get(connection, "/quick")
        answers = read_response(connection)
        while not answers.endswith(b"quick"):
            answers += read_response(connection)
    assert answers.index(b"\r\n\r\nready") < answers.index(b"\r\n\r\nquick")


def test_pipelined_requests_of_slow_readers_occupy_no_thread(server: ServerProcess) -> None:
    sent = b"".join(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"block", b"block", b"quick"))
    with ExitStack() as stack:
        readers = [stack.enter_context(server.connect(buffer=65536)) for _ in range(4)]
        for reader in readers:
            reader.sendall(sent)
        for _ in range(20):
            assert server.get("/quick") == b"quick"
        for reader in readers:
            answers = bytearray()
            while not answers.endswith(b"quick"):
                answers += receive(reader, 1 << 18)
            assert answers.count(b"HTTP/1.1 200 ") == 3
            assert answers.count(b"x" * 1000) == 16_000


def test_shutdown_completes_parked_responses(server: ServerProcess) -> None:
    with server.connect() as waiting, server.connect(buffer=65536) as reader:
        send_get(waiting, "/wait/2")
        send_get(reader, "/stream")
        assert reader.recv(10)
        server.process.terminate()
        time.sleep(0.3)
        assert read_response(waiting).endswith(b"ready")
        assert read_all(reader).endswith(b"0\r\n\r\n")
    assert server.process.wait(60) == 0
