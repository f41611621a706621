"""Dispatcher: short requests run one by one, long requests in parallel, and each exactly once."""

from __future__ import annotations

import collections
import http.client
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from chalk_flask.server import dispatcher
from chalk_flask.server.dispatcher import SHORT_REQUEST_SECONDS, ShortRequestFirstDispatcher
from tests.support.deliveries import wait_until
from tests.support.server_process import ServerProcess, server_process


class Task:
    """Request that counts how often it is served and cancelled."""

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        self.work = work
        self.served = 0
        self.cancelled = 0
        self.rejected = 0
        self.done = threading.Event()

    def service(self) -> None:
        self.served += 1
        try:
            self.work()
        finally:
            self.done.set()

    def reject_overload(self) -> None:
        self.rejected += 1

    def cancel(self) -> None:
        self.cancelled += 1


class RunningDispatcher:
    """Dispatcher with its threads and a loop that relieves it, as the server does."""

    def __init__(self, threads: int) -> None:
        self.dispatcher = ShortRequestFirstDispatcher()
        self.dispatcher.set_thread_count(threads)
        self._stopped = threading.Event()
        self._loop = threading.Thread(target=self._relieve)

    def __enter__(self) -> RunningDispatcher:
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._loop.join()
        self.dispatcher.shutdown(timeout=60)

    def _relieve(self) -> None:
        while not self._stopped.wait(SHORT_REQUEST_SECONDS):
            if self.dispatcher.has_queued_requests:
                self.dispatcher.wake_if_all_long()

    def add(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.dispatcher.add_task(task)


def all_done(tasks: list[Task], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    return all(task.done.wait(max(0, deadline - time.monotonic())) for task in tasks)


def test_each_request_of_many_threads_is_served_once() -> None:
    rng = random.Random(5)
    works: list[Callable[[], object]] = [lambda: None] * 30
    works += [lambda: time.sleep(0.0005), lambda: time.sleep(0.012)]
    batches = [[Task(rng.choice(works)) for _ in range(400)] for _ in range(6)]
    with RunningDispatcher(8) as running:
        adders = [threading.Thread(target=running.add, args=(batch,)) for batch in batches]
        for adder in adders:
            adder.start()
        tasks = [task for batch in batches for task in batch]
        assert all_done(tasks)
        for adder in adders:
            adder.join()
    assert {(task.served, task.cancelled) for task in tasks} == {(1, 0)}


def test_single_requests_are_served() -> None:
    with RunningDispatcher(4) as running:
        for _ in range(500):
            task = Task()
            running.dispatcher.add_task(task)
            assert task.done.wait(60)


def test_request_that_adds_a_request_has_it_served() -> None:
    with RunningDispatcher(4) as running:
        last = Task()
        chain = last
        for _ in range(200):
            chain = Task(lambda follower=chain: running.dispatcher.add_task(follower))  # type: ignore[misc]  # bound now
        running.dispatcher.add_task(chain)
        assert last.done.wait(60)
    assert last.served == 1


def test_short_requests_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "SHORT_REQUEST_SECONDS", 60.0)  # no request becomes long, even on a busy machine
    lock, overlaps = threading.Lock(), 0

    def work() -> None:
        nonlocal overlaps
        if lock.acquire(blocking=False):
            time.sleep(0.0002)
            lock.release()
        else:
            overlaps += 1

    with RunningDispatcher(8) as running:
        tasks = [Task(work) for _ in range(300)]
        running.add(tasks)
        assert all_done(tasks)
    assert overlaps == 0


def test_short_request_does_not_wait_for_long_ones() -> None:
    go_on = threading.Event()
    with RunningDispatcher(8) as running:
        slow = [Task(lambda: go_on.wait(120)) for _ in range(7)]
        running.add(slow)
        times = []
        for _ in range(20):
            task, began = Task(), time.monotonic()
            running.dispatcher.add_task(task)
            assert task.done.wait(60)
            times.append(time.monotonic() - began)
        assert not any(task.done.is_set() for task in slow)
        go_on.set()
        assert all_done(slow)
    assert sorted(times)[10] < 1, "the long tasks take 120 s"


def test_long_requests_use_all_threads() -> None:
    together = threading.Barrier(5)
    with RunningDispatcher(5) as running:
        tasks = [Task(lambda: together.wait(120)) for _ in range(10)]
        running.add(tasks)
        assert all_done(tasks)
    assert not together.broken


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_exception_of_a_request_is_logged_and_its_thread_continues(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    with RunningDispatcher(1) as running:
        tasks = [Task(fail), Task(fail), Task()]
        running.add(tasks)
        assert all_done(tasks)
    assert [task.served for task in tasks] == [1, 1, 1]
    assert caplog.text.count("Exception when servicing") == 2


def test_shutdown_ends_threads_and_cancels_waiting_requests_once(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    go_on = threading.Event()
    with RunningDispatcher(3) as running:
        busy = [Task(lambda: go_on.wait(120)) for _ in range(3)]
        running.add(busy)
        deadline = time.monotonic() + 60
        while running.dispatcher.queue and time.monotonic() < deadline:
            time.sleep(0.01)
        waiting = [Task() for _ in range(50)]
        running.add(waiting)
        threading.Timer(0.3, go_on.set).start()
        assert running.dispatcher.shutdown(timeout=60)
        assert not running.dispatcher.threads
        assert not running.dispatcher.has_queued_requests
    assert {(task.served, task.cancelled) for task in busy} == {(1, 0)}
    assert {task.served + task.cancelled for task in waiting} == {1}
    assert "still running" not in caplog.text
    assert_ended(set(threading.enumerate()) - before)


def test_shutdown_ends_idle_threads_at_once() -> None:
    before = set(threading.enumerate())
    idle = ShortRequestFirstDispatcher()
    idle.set_thread_count(16)
    began = time.monotonic()
    idle.shutdown(timeout=60)
    assert not idle.threads
    assert time.monotonic() - began < 30
    assert_ended(set(threading.enumerate()) - before)


def assert_ended(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_thread_count_can_be_changed() -> None:
    with RunningDispatcher(6) as running:
        for count in (2, 5, 1):
            running.dispatcher.set_thread_count(count)
            tasks = [Task() for _ in range(50)]
            running.add(tasks)
            assert all_done(tasks)
            deadline = time.monotonic() + 60
            while len(running.dispatcher.threads) != count and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(running.dispatcher.threads) == count


# WSGI application that returns ID for /n/ID, the same after a pause for /slow/ID, and 64 MB for /stream. /begun returns
# the number of slow requests so far. At the end it prints the numbers of different requests and of all requests.
PROGRAM = """
import collections, time

served, begun = collections.Counter(), []

def app(environ, start_response):
    kind, _, number = environ["PATH_INFO"][1:].partition("/")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "stream":
        return (b"x" * 65536 for _ in range(1024))
    if kind == "begun":
        return [str(len(begun)).encode()]
    if kind == "slow":
        begun.append(number)
        time.sleep(0.5)
    served[number] += 1
    return [number.encode()]
"""
AFTER_SERVING = "print(len(served), sum(served.values()), flush=True)"


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with server_process(PROGRAM, AFTER_SERVING, True) as server:
        yield server


def stop(server: ServerProcess) -> tuple[int, int]:
    """Stop the server and return its numbers of different requests and of all requests."""
    server.process.send_signal(signal.SIGTERM)
    out, err = server.process.communicate(timeout=60)
    assert server.process.returncode == 0, err
    assert err == ""
    different, total = out.split()
    return int(different), int(total)


@contextmanager
def stalled_readers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that request a stream and read nothing."""
    with ExitStack() as stack:
        stalled = [stack.enter_context(socket.socket()) for _ in range(count)]
        for client_socket in stalled:
            client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client_socket.connect(("127.0.0.1", port))
            client_socket.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        yield stalled


@pytest.mark.slow
def test_clients_receive_their_own_responses_beside_slow_readers(
    server: ServerProcess,
) -> None:
    port = server.port

    def send_requests(client: int) -> list[float]:
        times = []
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            for turn in range(60):
                began = time.monotonic()
                connection.request("GET", f"/n/{client}-{turn}")
                assert connection.getresponse().read() == f"{client}-{turn}".encode()
                times.append(time.monotonic() - began)
        return times

    def drain(_: int) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/stream")
            return len(connection.getresponse().read())

    with stalled_readers(port, 4), ThreadPoolExecutor(26) as pool:
        streams = pool.map(drain, range(2))
        times = [seconds for client in pool.map(send_requests, range(24)) for seconds in client]
        assert list(streams) == [64 << 20] * 2
    assert len(times) == 24 * 60
    assert stop(server) == (24 * 60, 24 * 60)


@pytest.mark.slow
def test_client_that_reads_nothing_delays_no_other(server: ServerProcess) -> None:
    port = server.port
    times: list[float] = []
    with (
        stalled_readers(port, 8) as stalled,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            began = time.monotonic()
            connection.request("GET", f"/n/{len(times)}")
            connection.getresponse().read()
            times.append(time.monotonic() - began)
            time.sleep(0.005)
        content = b"".join(iter(lambda: stalled[0].recv(1 << 20), b""))
    times.sort()
    assert times[len(times) // 2] < 1, "a thread that waits for the reader would take seconds"
    assert content.partition(b"\r\n\r\n")[2].count(b"x") == 64 << 20  # it lost nothing
    assert stop(server) == (len(times), len(times))


@pytest.mark.slow
def test_pipelined_requests_get_one_response_each_in_order(server: ServerProcess) -> None:
    port = server.port

    def pipeline(client: int) -> list[bytes]:
        paths = [f"/{'slow' if turn == 20 else 'n'}/{client}-{turn}" for turn in range(50)]
        requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths[:-1]]
        requests.append(f"GET {paths[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall("".join(requests).encode())
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        return re.findall(rb"\r\n\r\n(?:[0-9a-f]+\r\n)?(\d+-\d+)", received)

    with ThreadPoolExecutor(12) as pool:
        for client, answers in enumerate(pool.map(pipeline, range(12))):
            assert answers == [f"{client}-{turn}".encode() for turn in range(50)]
    assert stop(server) == (600, 600)


@pytest.mark.slow
def test_stop_finishes_requests_that_were_begun(server: ServerProcess) -> None:
    port = server.port
    answered: collections.deque[str] = collections.deque()

    def slow(client: int) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", f"/slow/s{client}")
            return connection.getresponse().read()

    def busy(client: int) -> None:
        with (
            suppress(OSError, http.client.HTTPException),  # the server has stopped
            closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
        ):
            for turn in range(100_000):
                connection.request("GET", f"/n/{client}-{turn}")
                answered.append(connection.getresponse().read().decode())

    with ThreadPoolExecutor(18) as pool:
        slow_ones = [pool.submit(slow, client) for client in range(10)]
        busy_ones = [pool.submit(busy, client) for client in range(8)]
        wait_until(lambda: server.get("/begun") == b"10" and len(answered) > 8)
        different, total = stop(server)
        assert [future.result(60) for future in slow_ones] == [f"s{client}".encode() for client in range(10)]
        for future in busy_ones:
            future.result(60)
    assert different == total
    assert len(set(answered)) == len(answered) > 8
    # One response for each of the eight clients may have been sent when its connection was closed.
    assert len(answered) + 10 <= total <= len(answered) + 10 + 8


def test_client_uses_no_more_threads_than_its_share_and_others_pass_it() -> None:
    go_on, lock, running, most = threading.Event(), threading.Lock(), 0, 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(120)
        with lock:
            running -= 1

    with RunningDispatcher(8) as server:
        greedy, others = [Task(work) for _ in range(30)], [Task() for _ in range(30)]
        for task in greedy:
            server.dispatcher.add_task(task, (("greedy", 3),))
        for task in others:
            server.dispatcher.add_task(task, (("other", 3),))
        assert all_done(others)
        assert not any(task.done.is_set() for task in greedy)
        wait_until(lambda: most == 3)
        go_on.set()
        assert all_done(greedy)
    assert most == 3
    assert {task.served for task in greedy + others} == {1}


def test_no_request_is_left_waiting_for_a_share() -> None:
    rng = random.Random(7)
    with RunningDispatcher(6) as server:
        tasks = [Task(lambda: time.sleep(0.001)) for _ in range(600)]
        for task in tasks:
            address, credential, is_search = rng.randrange(2), rng.randrange(3), rng.random() < 0.5
            shares = (("address", address), 3), (("credential", credential), 2), ("search", 1)
            server.dispatcher.add_task(task, shares if is_search else shares[:2])
        assert all_done(tasks)
    assert {task.served for task in tasks} == {1}


def test_parked_responses_leave_a_quarter_of_the_threads() -> None:
    go_on = threading.Event()
    with RunningDispatcher(8) as server:
        parked = [Task(lambda: go_on.wait(120)) for _ in range(20)]
        for task in parked:
            server.dispatcher.resume_task(task)
        wait_until(lambda: len(server.dispatcher._started) >= 6)
        time.sleep(0.1)
        assert len(server.dispatcher._started) == 6
        together = threading.Barrier(2)
        requests = [Task(lambda: together.wait(120)) for _ in range(2)]
        server.add(requests)
        assert all_done(requests)
        go_on.set()
        assert all_done(parked)


def test_request_that_waited_too_long_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(120)

    with RunningDispatcher(1) as server:
        busy, late = Task(work), Task()
        server.add([busy])
        assert begun.wait(60)
        monkeypatch.setattr(dispatcher, "MAX_QUEUE_SECONDS", 0.2)
        server.add([late])
        time.sleep(0.3)
        go_on.set()
        assert all_done([busy, late])
    assert (busy.rejected, late.rejected) == (0, 1)
