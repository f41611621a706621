from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from chalk_flask.background.batch_writer import BatchWriter


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)


class Queue:
    """Queue whose batches are collected in `written`."""

    def __init__(self, delay: float = 0.0, pause: float | None = None, flush_at_exit: bool = False) -> None:
        self.waiting: list[int] = []
        self.written: list[list[int]] = []
        self.threads: set[threading.Thread] = set()
        self.pause = pause
        self.writer = BatchWriter("test", self._write, delay=delay, flush_at_exit=flush_at_exit)

    def add(self, item: int) -> None:
        self.waiting.append(item)
        self.writer.wake()

    def _write(self) -> float | None:
        self.threads.add(threading.current_thread())
        batch = [self.waiting.pop(0) for _ in range(len(self.waiting))]
        if not batch:
            return None
        self.written.append(batch)
        return self.pause


def test_batch_writer_writes_and_ends_its_thread() -> None:
    queue = Queue()
    queue.add(1)
    wait_until(lambda: bool(queue.written))
    [thread] = queue.threads
    thread.join(60)
    assert not thread.is_alive()
    queue.add(2)
    wait_until(lambda: queue.written == [[1], [2]])


def test_batch_writer_gathers_work_during_delay_and_pause() -> None:
    delayed, paused = Queue(delay=3600), Queue(pause=3600)
    paused.add(1)
    wait_until(lambda: paused.written == [[1]])
    for queue in (delayed, paused):
        queue.add(2)
        queue.add(3)
        queue.writer.close()
    assert delayed.written == [[2, 3]]
    assert paused.written == [[1], [2, 3]]
    assert len(paused.threads) == 1


def test_batch_writer_writes_when_delay_and_pause_are_over() -> None:
    queue = Queue(delay=0.05, pause=0.05)
    for number in (1, 2):
        queue.add(number)
        wait_until(lambda: queue.written == [[1], [2]][:number])  # noqa: B023 - it is called in this turn


def test_batch_writer_loses_no_work_of_many_threads() -> None:
    queue = Queue()

    def add_many(number: int) -> None:
        for item in range(number * 500, number * 500 + 500):
            queue.add(item)

    threads = [threading.Thread(target=add_many, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: sum(map(len, queue.written)) == 4000)
    assert sorted(item for batch in queue.written for item in batch) == list(range(4000))


def test_batch_writer_close_cuts_the_pause_and_writes_the_rest() -> None:
    queue = Queue(delay=3600)
    queue.add(1)
    began = time.monotonic()
    queue.writer.close()
    assert queue.written == [[1]]
    assert time.monotonic() - began < 60
    queue.writer.close()
    assert queue.written == [[1]]


def test_batch_writer_close_without_thread_writes_the_rest() -> None:
    queue = Queue()
    queue.waiting.append(1)
    queue.writer.close()
    assert queue.written == [[1]]
    assert queue.threads == {threading.current_thread()}


def test_batch_writer_close_starts_no_thread_any_more() -> None:
    queue = Queue()
    queue.writer.close()
    assert queue.writer.is_closing
    queue.add(1)
    assert queue.waiting == [1]
    assert queue.writer._thread is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_batch_writer_works_again_after_an_exception() -> None:
    failures = iter([OSError("disk full")])
    calls: list[int] = []

    def write() -> float | None:
        calls.append(1)
        for failure in failures:
            raise failure
        return None

    writer = BatchWriter("test", write, delay=0.0)
    writer.wake()
    wait_until(lambda: len(calls) == 1)
    thread = writer._thread
    if thread is not None:
        thread.join(60)
    writer.wake()
    wait_until(lambda: len(calls) == 2)


@pytest.mark.slow
def test_batch_writer_starts_a_thread_in_a_forked_process() -> None:
    queue = Queue(delay=0.0, pause=3600)
    queue.add(1)
    wait_until(lambda: queue.written == [[1]])
    child = os.fork()
    if child == 0:
        queue.add(2)
        with suppress(AssertionError):
            wait_until(lambda: queue.written == [[1], [2]])
        os._exit(0 if queue.written == [[1], [2]] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    queue.writer.close()


def test_batch_writer_is_closed_at_exit_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[object] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", lambda call: registered.remove(call) if call in registered else None)
    queue = Queue(delay=3600, flush_at_exit=True)
    queue.add(1)
    assert registered == [queue.writer.close]
    queue.writer.close()
    assert registered == []
