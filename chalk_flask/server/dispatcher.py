"""How requests are given to threads: one at a time while they are short, more when some take long.

Sixteen threads that work at once on requests of a third of a millisecond spend most of their time handing the
interpreter's lock to each other, because the storage driver gives it up around every step of a statement: a read that
costs 0.3 ms alone costs 1 ms then. So a request waits for the one before it; but not for long, since that one may
stream to a slow reader or sort a large collection.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from waitress.task import ThreadedTaskDispatcher

__all__ = ["SHORT_REQUEST_SECONDS", "ShortRequestFirstDispatcher"]

SHORT_REQUEST_SECONDS = 0.01
"""Seconds after which nobody waits for a request any more."""


class ShortRequestFirstDispatcher(ThreadedTaskDispatcher):
    """waitress's dispatcher, but a thread is woken only when no other is at work on a short request.

    The thread that is at work takes the next request itself, without sleep in between. `relieve` is called from time
    to time by the loop, at least every LONG seconds while `waiting`, and wakes another thread when that has not
    happened for LONG.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[int, float] = {}
        # Each thread sleeps on a lock of its own, and the last to fall asleep is the first to be woken: its caches are
        # warm. A condition would wake them in turn.
        self._asleep: list[tuple[int, threading.Lock]] = []

    @property
    def waiting(self) -> bool:
        """Whether requests are queued."""
        return bool(self.queue)

    def add_task(self, task: Any) -> None:
        """Queue a request, and wake a thread for it unless one will come by soon."""
        with self.lock:
            self.queue.append(task)
            self._wake()

    def relieve(self) -> None:
        """Wake a thread when requests are queued and all threads at work have been so for long."""
        with self.lock:
            self._wake()

    def set_thread_count(self, count: int) -> None:
        """Start or stop threads until there are so many."""
        super().set_thread_count(count)
        with self.lock:
            if self.stop_count:
                while self._asleep:
                    self._asleep.pop()[1].release()

    def handler_thread(self, thread_no: int) -> None:
        """Work until told to stop."""
        bed = threading.Lock()
        bed.acquire()
        while (task := self._next(thread_no, bed)) is not None:
            try:
                task.service()
            except BaseException:
                self.logger.exception("Exception when servicing %r", task)

    def _next(self, thread_no: int, bed: threading.Lock) -> Any:
        """The next request for a thread, once there is one that nobody else will take soon; None: end the thread."""
        while True:
            with self.lock:
                self._started.pop(thread_no, None)
                if self.stop_count > 0:
                    return self._leave(thread_no)
                if self.queue and not self._soon():
                    self._started[thread_no] = time.monotonic()
                    return self.queue.popleft()
                self.active_count -= 1
                self._asleep.append((thread_no, bed))
            bed.acquire()
            with self.lock:
                self.active_count += 1

    def _leave(self, thread_no: int) -> None:
        self.active_count -= 1
        self.stop_count -= 1
        self.threads.discard(thread_no)
        self.thread_exit_cv.notify()

    def _wake(self) -> None:
        if self.queue and self._asleep and not self._soon():
            thread_no, bed = self._asleep.pop()
            self._started[thread_no] = time.monotonic()  # it is on its way: nobody else need be woken
            bed.release()

    def _soon(self) -> bool:
        """Whether a thread is at work on what has not taken long so far, and will come for more."""
        late = time.monotonic() - SHORT_REQUEST_SECONDS
        return any(started > late for started in self._started.values())
