"""Thread that repeats a task: pauses, errors, and its end."""

from __future__ import annotations

import logging
import threading

from backends import StorageError
from chalk_flask.background.polling_thread import PollingThread
from tests.support.deliveries import wait_until


def ignore_error(_level: int, _message: str) -> None:
    raise AssertionError("there is no error")


def test_task_is_repeated_after_the_pause_that_it_returns() -> None:
    calls: list[int] = []

    def poll() -> float:
        calls.append(len(calls))
        return 0.001 if len(calls) < 3 else 60.0

    thread = PollingThread("test", poll, ignore_error, error_pause=60.0)
    assert not thread.is_started
    thread.start()
    wait_until(lambda: len(calls) == 3)
    thread.wake()
    wait_until(lambda: len(calls) == 4)
    thread.stop()
    assert thread.is_started
    assert len(calls) == 4


def test_same_error_in_a_row_is_logged_once_at_its_level() -> None:
    errors = iter([StorageError("busy"), StorageError("busy"), None, StorageError("busy"), KeyError("name")])
    logged: list[tuple[int, str]] = []

    def poll() -> float:
        error = next(errors, None)
        if error is not None:
            raise error
        return 0.001

    thread = PollingThread("test", poll, lambda *entry: logged.append(entry), error_pause=0.001)
    thread.start()
    wait_until(lambda: len(logged) == 4)
    thread.stop()
    assert [level for level, _ in logged] == [logging.ERROR, logging.DEBUG, logging.ERROR, logging.ERROR]
    assert [message for _, message in logged[:3]] == ["busy"] * 3
    assert "KeyError" in logged[3][1]
    assert "name" not in logged[3][1].replace("__name__", ""), "the value of an unexpected error may be personal data"


def test_stop_interrupts_a_long_task_and_its_delay() -> None:
    begun = threading.Event()

    def poll() -> float:
        begun.set()
        thread.stopping.wait()
        return 0.0

    thread = PollingThread("test", poll, ignore_error, error_pause=60.0)
    thread.start()
    assert begun.wait(60)
    thread.stop()
    idle = PollingThread("test", poll, ignore_error, error_pause=60.0, delay=600.0)
    idle.start()
    begun.clear()
    idle.stop(60)
    assert not begun.is_set()


def test_thread_that_was_never_started_can_be_stopped() -> None:
    PollingThread("test", lambda: 0.0, ignore_error, error_pause=1.0).stop()
