"""Dispatcher that runs short requests one after the other, and long ones in parallel.

The SQLite driver releases the interpreter's lock around every step of a statement. If sixteen threads work on requests
of 0.3 ms at once, they spend most of their time passing that lock on. A read then takes 1 ms. So a request waits until
the request before it ends, but only briefly. A long request may stream to a slow client or sort a large collection.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from waitress.task import ThreadedTaskDispatcher

__all__ = ["SHORT_REQUEST_SECONDS", "ShortRequestFirstDispatcher"]

SHORT_REQUEST_SECONDS = 0.01
"""Time after which other requests no longer wait for a request."""


class ShortRequestFirstDispatcher(ThreadedTaskDispatcher):
    """Dispatcher of waitress that wakes a thread only if no other thread works on a short request.

    A thread that finishes takes the next request at once. While requests are queued, the server must call
    `wake_if_all_long` at least every SHORT_REQUEST_SECONDS.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[int, float] = {}
        # Each idle thread waits for its own lock. The last one to become idle is woken first, because its caches are
        # warm; a condition variable would wake them in turn.
        self._idle: list[tuple[int, threading.Lock]] = []

    @property
    def has_queued_requests(self) -> bool:
        """True if requests are queued."""
        return bool(self.queue)

    def add_task(self, task: Any) -> None:
        """Queue a request, and wake a thread unless a busy one is expected to take it soon."""
        with self.lock:
            self.queue.append(task)
            self._wake()

    def wake_if_all_long(self) -> None:
        """Wake a thread if requests are queued and all active requests are long."""
        with self.lock:
            self._wake()

    def set_thread_count(self, count: int) -> None:
        """Start or stop threads until there are `count`."""
        super().set_thread_count(count)
        with self.lock:
            if self.stop_count:
                while self._idle:
                    self._idle.pop()[1].release()

    def handler_thread(self, thread_no: int) -> None:
        """Serve requests until the thread is stopped."""
        wakeup = threading.Lock()
        wakeup.acquire()
        while (task := self._next(thread_no, wakeup)) is not None:
            try:
                task.service()
            except BaseException:
                self.logger.exception("Exception when servicing %r", task)

    def _next(self, thread_no: int, wakeup: threading.Lock) -> Any:
        """Wait for a request that no other thread will take soon, and return it; None ends the thread."""
        while True:
            with self.lock:
                self._started.pop(thread_no, None)
                if self.stop_count > 0:
                    return self._end_thread(thread_no)
                if self.queue and not self._expects_free_thread():
                    self._started[thread_no] = time.monotonic()
                    return self.queue.popleft()
                self.active_count -= 1
                self._idle.append((thread_no, wakeup))
            wakeup.acquire()
            with self.lock:
                self.active_count += 1

    def _end_thread(self, thread_no: int) -> None:
        self.active_count -= 1
        self.stop_count -= 1
        self.threads.discard(thread_no)
        self.thread_exit_cv.notify()

    def _wake(self) -> None:
        if self.queue and self._idle and not self._expects_free_thread():
            thread_no, wakeup = self._idle.pop()
            self._started[thread_no] = time.monotonic()  # counts as busy from now on, so that no other thread is woken
            wakeup.release()

    def _expects_free_thread(self) -> bool:
        """Return True if a thread works on a request that is still short, and so is expected to be free soon."""
        limit = time.monotonic() - SHORT_REQUEST_SECONDS
        return any(started > limit for started in self._started.values())
