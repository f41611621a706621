"""Sockets of the server: with epoll and without it, no connection waits for an event that never comes."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from waitress import wasyncore

from chalk_flask.server.socket_map import make_socket_map
from tests.support.server_process import ServerProcess, read_all, read_response, receive, send_get, server_process

pytestmark = pytest.mark.slow

# Application that returns the path, after as many milliseconds as the query says, and a large body on request. It
# prints when it begins with /busy.
APP = """
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/busy":
        print("begun", flush=True)
    time.sleep(int(environ["QUERY_STRING"] or 0) / 1000)
    answer = environ["PATH_INFO"].encode() * (100_000 if "large" in environ["PATH_INFO"] else 1)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""
SYSTEMS = {"epoll": APP, "poll": f"import select\ndel select.epoll\n{APP}"}


@pytest.fixture(scope="module", params=SYSTEMS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with server_process(SYSTEMS[request.param]) as started:
        yield started


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def test_many_requests_on_many_connections_are_answered(server: ServerProcess) -> None:
    def use_connection(seed: int) -> None:
        rng = random.Random(seed)
        with server.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(60):
                paths = [f"/{seed}-{number}-{part}" for part in range(rng.choice([1, 1, 1, 2, 5]))]
                query = rng.choice(["", "", "", "1", "12"])
                sent = b"".join(f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
                cut = rng.randrange(len(sent)) if rng.random() < 0.3 else len(sent)
                connection.sendall(sent[:cut])
                if cut < len(sent):
                    time.sleep(rng.choice([0, 0.002]))
                    connection.sendall(sent[cut:])
                answers = b""
                while answers.count(b"HTTP/1.1 200 OK") < len(paths) or not answers.endswith(paths[-1].encode()):
                    answers += receive(connection)
                assert [part.partition(b"HTTP")[0] for part in answers.split(b"\r\n\r\n")[1:]] == [
                    path.encode() for path in paths
                ]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(use_connection, range(24)))


def test_request_that_arrives_during_a_response_is_answered_after_it(server: ServerProcess) -> None:
    with server.connect() as connection:
        send_get(connection, "/first?200")
        time.sleep(0.05)
        send_get(connection, "/second")
        received = b""
        while not received.endswith(b"/second"):
            received += receive(connection)
        assert [part.partition(b"HTTP")[0] for part in received.split(b"\r\n\r\n")[1:]] == [b"/first", b"/second"]


def test_client_that_has_ended_its_side_receives_the_response(server: ServerProcess) -> None:
    with server.connect() as connection:
        send_get(connection, "/first?200")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).endswith(b"/first")


def test_slow_client_receives_all_and_can_send_the_next_request(server: ServerProcess) -> None:
    with server.connect(buffer=4096) as connection:
        for _ in range(3):
            send_get(connection, "/large")
            time.sleep(0.3)
            assert body_of(read_response(connection)) == b"/large" * 100_000


def test_connections_that_come_and_go_leave_others_alone(server: ServerProcess) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(5)]
        for number in range(200):
            with server.connect() as connection:
                send_get(connection, f"/{number}{'?20' if number % 20 == 0 else ''}")
                if number % 3:
                    assert body_of(read_response(connection)) == b"/%d" % number
            send_get(kept[number % 5], f"/kept-{number}")
            assert body_of(read_response(kept[number % 5])) == b"/kept-%d" % number


@pytest.mark.parametrize("system", SYSTEMS)
def test_idle_and_busy_connections_end_at_shutdown(system: str) -> None:
    with server_process(SYSTEMS[system]) as server, server.connect() as idle, server.connect() as busy:
        send_get(idle, "/idle")
        read_response(idle)
        send_get(busy, "/busy?500")
        assert server.line() == "begun"
        os.kill(server.process.pid, signal.SIGTERM)
        assert read_all(idle) == b""
        assert body_of(read_response(busy)) == b"/busy"
        assert read_all(busy) == b""
        assert server.process.wait(60) == 0


# Application whose thread goes on for a while after its response was sent. Its connection waits for the next request
# only after another pause.
LATE = """
import time
from chalk_flask.server import socket_map

await_request = socket_map._EpollSocketMap.await_request

def await_late(self, channel):
    time.sleep(0.5)
    return await_request(self, channel)

socket_map._EpollSocketMap.await_request = await_late

class Body(list):
    def close(self):
        time.sleep(0.5)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return Body([b"done"])
"""


def test_request_beside_the_end_of_another_is_answered_at_shutdown() -> None:
    with server_process(LATE) as server, server.connect() as connection:
        send_get(connection, "/first")
        assert body_of(read_response(connection)) == b"done"
        send_get(connection, "/second")
        os.kill(server.process.pid, signal.SIGTERM)
        assert body_of(read_response(connection)) == b"done"
        assert server.process.wait(60) == 0


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_events_of_more_than_1023_sockets_are_handled_at_once() -> None:
    class Reader(wasyncore.dispatcher):
        def handle_read(self) -> None:
            readers.add(self)

    readers: set[Reader] = set()
    sockets = make_socket_map()
    receiver, sender = socket.socketpair()
    with receiver, sender:
        for _ in range(1100):
            Reader(receiver.dup(), sockets)
        sender.send(b"x")
        sockets.handle_events(0)
        sockets.close()
    assert len(readers) == 1100
