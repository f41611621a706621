"""Server loop that runs loop requests: which ones, in which order, and what happens to the others meanwhile."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

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

# Application that returns where it ran, and how often the path was requested so far. The first part of the path is the
# kind of the request, and decides what it does.
APP = """
import threading, time
from collections import Counter
from chalk_flask.server.loop_requests import loop_kinds
from chalk_flask.server.loop_requests import IN_LOOP_KEY, require_thread

loop_kinds.MAX_LOOP_SECONDS = 0.1  # so that no request is long because the machine is busy
runs, effects, released = Counter(), Counter(), threading.Event()

def classify_request(method, path, query):
    return "" if path.startswith("/threads") else path.split("/")[1]

def app(environ, start_response):
    path = environ["PATH_INFO"]
    kind = path.split("/")[1]
    runs[path] += 1
    in_loop = IN_LOOP_KEY in environ
    if kind == "waiting":
        require_thread(environ)
    if kind == "failing" and in_loop:
        raise ValueError("a failure")
    if kind == "long" and in_loop:
        time.sleep(0.12)
    if path == "/threads/hold":
        print("held", flush=True)
        released.wait(120)
    if path == "/threads/release":
        released.set()
    effects[path] += 1
    body = f"{'loop' if in_loop else 'thread'} {runs[path]} {effects[path]}".encode()
    if kind == "large":
        body = body.ljust(4_000_000 if path == "/large/4" else 300_000, b"x")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
"""
TOKEN = "Authorization: Bearer chk_test_1"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(APP) as started:
        yield started


def get(connection: socket.socket, path: str, *headers: str) -> str:
    send_get(connection, path, *(headers or (TOKEN,)))
    return body_of(read_response(connection))


def body_of(response: bytes) -> str:
    return response.partition(b"\r\n\r\n")[2].rstrip(b"x").decode()


def place(connection: socket.socket, path: str, *headers: str) -> str:
    return get(connection, path, *headers).split()[0]


def reach_loop(connection: socket.socket, path: str, *headers: str) -> None:
    """Request a path until the loop runs it. On a busy machine, more requests than usual are long."""
    wait_until(lambda: place(connection, path, *headers) == "loop")


def test_requests_of_a_new_kind_run_in_threads_first(server: ServerProcess) -> None:
    with server.connect() as connection:
        assert [place(connection, "/new") for _ in range(2)] == ["thread", "thread"]
        reach_loop(connection, "/new")


def test_connections_share_what_is_known_of_a_kind(server: ServerProcess) -> None:
    with server.connect() as first:
        reach_loop(first, "/shared")

    def place_on_new_connection() -> str:
        with server.connect() as connection:
            return place(connection, "/shared")

    wait_until(lambda: place_on_new_connection() == "loop")


def test_kinds_are_known_per_credential(server: ServerProcess) -> None:
    with server.connect() as connection:
        reach_loop(connection, "/own")
        assert place(connection, "/own", "Authorization: Bearer chk_test_2") == "thread"


@pytest.mark.parametrize(
    "headers",
    [
        ("X-None: 1",),
        ("Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",),
        ('Authorization: OAuth oauth_consumer_key="c", oauth_nonce="n"',),
        ("Authorization: Basic Y2hrXzE6eA==",),
    ],
)
def test_requests_without_an_api_token_always_run_in_threads(server: ServerProcess, headers: tuple[str, ...]) -> None:
    with server.connect() as connection:
        assert {place(connection, "/credentials", *headers) for _ in range(12)} == {"thread"}


def test_requests_with_a_body_always_run_in_threads(server: ServerProcess) -> None:
    request = f"GET /with-body HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with server.connect() as connection:
        for _ in range(12):
            connection.sendall(request)
            assert body_of(read_response(connection)).startswith("thread")


def test_request_without_a_kind_always_runs_in_a_thread(server: ServerProcess) -> None:
    with server.connect() as connection:
        assert {place(connection, "/threads/1") for _ in range(12)} == {"thread"}


def test_request_that_needs_a_thread_has_its_effect_once(server: ServerProcess) -> None:
    with server.connect() as connection:
        replies = [get(connection, "/waiting").split() for _ in range(60)]
    assert {reply[0] for reply in replies} == {"thread"}
    assert [int(reply[2]) for reply in replies] == list(range(1, 61))
    runs = int(replies[-1][1])
    assert runs > 60, "the loop never tried"
    assert runs < 75, "the loop tried again and again"


def test_kind_that_takes_long_leaves_the_loop(server: ServerProcess) -> None:
    with server.connect() as connection:
        places = [place(connection, "/long") for _ in range(60)]
    assert "loop" in places
    assert places.count("loop") < 16


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    paths = ["/mixed", "/waiting", "/mixed", "/threads/2", "/large", "/mixed", "/long", "/mixed"] * 4
    with server.connect() as other:
        for path in ("/mixed", "/large"):
            reach_loop(other, path)
        before = {path: get(other, path).split() for path in set(paths)}
    with server.connect() as connection:
        connection.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\n\r\n".encode() for path in paths))
        answers = read_responses(connection, len(paths))
    assert {answer.split()[0] for answer in answers} == {"loop", "thread"}
    counts = {path: int(found[2]) for path, found in before.items()}
    for path, answer in zip(paths, answers, strict=True):
        counts[path] += 1
        assert int(answer.split()[2]) == counts[path], path


def read_responses(connection: socket.socket, count: int) -> list[str]:
    data = b""
    answers: list[str] = []
    while len(answers) < count:
        head, end, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) if end else 0
        if end and len(body) >= length:
            answers.append(body[:length].rstrip(b"x").decode())
            data = body[length:]
            continue
        part = connection.recv(1 << 20)
        assert part, data[:200]
        data += part
    return answers


def test_response_larger_than_the_socket_buffer_is_complete(server: ServerProcess) -> None:
    with server.connect() as other:
        reach_loop(other, "/large/4")
        reach_loop(other, "/beside")
    with server.connect(buffer=16384) as slow, server.connect() as other:
        send_get(slow, "/large/4", TOKEN)
        for _ in range(20):
            get(other, "/beside")
        response = read_response(slow)
        assert len(response.partition(b"\r\n\r\n")[2]) == 4_000_000
        assert get(slow, "/beside")


def test_head_and_close_work_in_the_loop(server: ServerProcess) -> None:
    with server.connect() as connection:
        reach_loop(connection, "/head")
        connection.sendall(f"HEAD /head HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        send_get(connection, "/head", TOKEN, "Connection: close")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body


def test_client_that_disconnects_leaves_the_others_alone(server: ServerProcess) -> None:
    with server.connect() as connection:
        reach_loop(connection, "/large")
        for _ in range(40):
            with server.connect() as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                send_get(gone, "/large", TOKEN)
        assert get(connection, "/beside")


def test_failure_in_the_loop_is_answered_and_the_loop_goes_on(server: ServerProcess) -> None:
    statuses = []
    for _ in range(12):
        with server.connect() as connection:
            send_get(connection, "/failing", TOKEN)
            statuses.append(read_response(connection).split(b" ")[1])
    assert set(statuses) == {b"200", b"500"}
    with server.connect() as connection:
        assert get(connection, "/beside")


def test_threads_run_all_requests_while_one_of_them_is_at_work(server: ServerProcess) -> None:
    with server.connect() as connection, server.connect() as holding:
        reach_loop(connection, "/during")
        assert get(holding, "/threads/3")
        send_get(holding, "/threads/hold", TOKEN)
        assert server.line() == "held"
        time.sleep(0.1)  # until it is long, and its thread no longer expected to be free soon
        found = [place(connection, "/during") for _ in range(10)]
        assert get(connection, "/threads/release")
        assert read_response(holding)
        assert set(found) == {"thread"}
        reach_loop(connection, "/during")


def test_many_requests_in_the_loop_do_not_keep_new_clients_waiting(server: ServerProcess) -> None:
    with server.connect() as connection:
        reach_loop(connection, "/crowd")
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(60)]
        request = f"GET /crowd HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\n\r\n".encode() * 40
        for connection in connections:
            connection.sendall(request)
        with server.connect() as late:
            assert get(late, "/threads/late")
        for connection in connections:
            assert len(read_responses(connection, 40)) == 40


def test_requests_that_wait_for_the_loop_are_answered_at_shutdown() -> None:
    with server_process(APP) as started, ExitStack() as stack:
        with started.connect() as connection:
            reach_loop(connection, "/last")
        connections = [stack.enter_context(closing(started.connect())) for _ in range(60)]
        for connection in connections:
            assert get(connection, "/threads/1")  # the server has accepted it
        for connection in connections:
            send_get(connection, "/last", TOKEN)
        started.process.send_signal(signal.SIGTERM)
        answers = [read_response(connection) for connection in connections]
        assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
        assert all(wait_until_closed(connection, 60) for connection in connections)
        assert started.process.wait(60) == 0
