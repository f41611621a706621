"""Dispatcher that runs short requests one after the other, and long ones in parallel.

The SQLite driver releases the interpreter's lock around every step of a statement. If sixteen threads work on requests
of 0.3 ms at once, they spend most of their time passing that lock on. A read then takes 1 ms. So a request waits until
the request before it ends, but only briefly. A long request may stream to a slow client or sort a large collection.

Each client can use a part of the threads only. Its further requests wait, and other clients pass them. A quarter of the
threads never runs parked responses, which are streams and long polls.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Hashable
from typing import Any, TypeAlias

from waitress.task import ThreadedTaskDispatcher

__all__ = ["SHORT_REQUEST_SECONDS", "Shares", "ShortRequestFirstDispatcher"]

SHORT_REQUEST_SECONDS = 0.01
"""Time after which other requests no longer wait for a request."""

MAX_QUEUE_SECONDS = 15.0
"""Maximum time that a request waits for a thread. After that it is rejected with 503."""


Shares: TypeAlias = tuple[tuple[Hashable, int], ...]
"""Keys of a client, such as its address, each with the number of threads that it can use at once."""


class _Entry:
    """Queued request, or the rest of a parked response."""

    __slots__ = ("is_resumed", "queued_at", "shares", "started_at", "task")

    def __init__(self, task: Any, shares: Shares, is_resumed: bool) -> None:
        self.task = task
        self.shares = shares
        self.is_resumed = is_resumed
        self.queued_at = self.started_at = time.monotonic()

    def service(self) -> None:
        """Run it, or reject a request that has waited too long: its client has probably given up."""
        if not self.is_resumed and self.started_at > self.queued_at + MAX_QUEUE_SECONDS:
            self.task.reject_overload()
        self.task.service()

    def cancel(self) -> None:
        """Cancel it."""
        self.task.cancel()


class ShortRequestFirstDispatcher(ThreadedTaskDispatcher):
    """Dispatcher of waitress that wakes a thread only if no other thread works on a short request.

    A thread that finishes takes the next request at once. While the dispatcher is busy and requests are queued, the
    server must call `wake_if_all_long` at least every SHORT_REQUEST_SECONDS.
    """

    queue: deque[_Entry]  # type: ignore[assignment]  # waitress queues the tasks themselves

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[int, float] = {}
        # Each idle thread waits for its own lock. The last one to become idle is woken first, because its caches are
        # warm; a condition variable would wake them in turn.
        self._idle: list[tuple[int, threading.Lock]] = []
        self._resumed: deque[_Entry] = deque()
        self._running_resumed = 0
        self._max_resumed = 0
        self._running: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[_Entry]] = {}

    @property
    def has_queued_requests(self) -> bool:
        """True if a request is queued that a thread can take."""
        return bool(self.queue or (self._resumed and self._running_resumed < self._max_resumed))

    @property
    def is_busy(self) -> bool:
        """True if a request is queued or running, or waits for a share. The end of a request can queue another one."""
        return bool(self._started or self.queue or self._resumed or self._waiting)

    @property
    def has_long_request(self) -> bool:
        """True if a thread has worked on a request for longer than SHORT_REQUEST_SECONDS."""
        if not self._started:
            return False
        with self.lock:
            return min(self._started.values(), default=math.inf) < time.monotonic() - SHORT_REQUEST_SECONDS

    @property
    def must_make_room(self) -> bool:
        """True if parked responses are queued, or if a request waits for a share of its client."""
        return bool(self._resumed or self._waiting)

    def add_task(self, task: Any, shares: Shares = ()) -> None:
        """Queue a request, and wake a thread unless a busy one is expected to take it soon."""
        with self.lock:
            self.queue.append(_Entry(task, shares, False))
            self._wake()

    def resume_task(self, task: Any, shares: Shares = ()) -> None:
        """Queue the rest of a parked response."""
        with self.lock:
            self._resumed.append(_Entry(task, shares, True))
            self._wake()

    def wake_if_all_long(self) -> None:
        """Wake a thread if requests are queued and all active requests are long."""
        with self.lock:
            self._wake()

    def set_thread_count(self, count: int) -> None:
        """Start or stop threads until there are `count`."""
        self._max_resumed = max(1, count - -(-count // 4))
        super().set_thread_count(count)
        with self.lock:
            if self.stop_count:
                while self._idle:
                    self._idle.pop()[1].release()

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        """Stop the threads, and cancel what is queued."""
        with self.lock:
            for entries in self._waiting.values():
                self.queue.extend(entry for entry in entries if not entry.is_resumed)
                self._resumed.extend(entry for entry in entries if entry.is_resumed)
            self._waiting.clear()
            parked = list(self._resumed)
            self._resumed.clear()
        for entry in parked:
            entry.cancel()
        return super().shutdown(cancel_pending, timeout)

    def handler_thread(self, thread_no: int) -> None:
        """Serve requests until the thread is stopped."""
        wakeup = threading.Lock()
        wakeup.acquire()
        entry: _Entry | None = None
        while (entry := self._next(thread_no, wakeup, entry)) is not None:
            try:
                entry.service()
            except BaseException:
                self.logger.exception("Exception when servicing %r", entry.task)

    def _next(self, thread_no: int, wakeup: threading.Lock, finished: _Entry | None) -> _Entry | None:
        """Wait for a request that no other thread will take soon, and return it; None ends the thread."""
        while True:
            with self.lock:
                self._started.pop(thread_no, None)
                if finished is not None:
                    self._release(finished)
                    finished = None
                if self.stop_count > 0:
                    self._end_thread(thread_no)
                    return None
                is_free = self.has_queued_requests and not self._expects_free_thread()
                if is_free and (entry := self._take()) is not None:
                    self._started[thread_no] = entry.started_at = time.monotonic()
                    return entry
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
        if self._idle and self.has_queued_requests and not self._expects_free_thread():
            thread_no, wakeup = self._idle.pop()
            self._started[thread_no] = time.monotonic()  # counts as busy from now on, so that no other thread is woken
            wakeup.release()

    def _expects_free_thread(self) -> bool:
        """Return True if a thread works on a request that is still short, and so is expected to be free soon."""
        if not self._started:
            return False
        limit = time.monotonic() - SHORT_REQUEST_SECONDS
        for started in self._started.values():  # noqa: SIM110 - any() takes three times as long, for each request
            if started > limit:
                return True
        return False

    def _take(self) -> _Entry | None:
        """Return the next entry whose client has a free share; the others wait for a share."""
        running = self._running
        while (entry := self._pop()) is not None:
            for key, limit in entry.shares:
                if key in running and running[key] >= limit:  # method calls would take longer, for each request
                    self._wait_for_share(entry, key)
                    break
            else:
                for key, _ in entry.shares:
                    running[key] = running[key] + 1 if key in running else 1
                self._running_resumed += entry.is_resumed
                return entry
        return None

    def _wait_for_share(self, entry: _Entry, full: Hashable) -> None:
        """Let an entry wait for a key without free shares. Its other keys may have shares for other entries."""
        self._waiting.setdefault(full, deque()).append(entry)
        for key, limit in entry.shares:
            if self._running.get(key, 0) < limit:
                self._requeue_one(key)

    def _pop(self) -> _Entry | None:
        can_resume = self._resumed and self._running_resumed < self._max_resumed
        if can_resume and not (self.queue and self.queue[0].queued_at < self._resumed[0].queued_at):
            return self._resumed.popleft()
        return self.queue.popleft() if self.queue else None

    def _release(self, entry: _Entry) -> None:
        """Free the shares of an entry that a thread has run."""
        self._running_resumed -= entry.is_resumed
        for key, _ in entry.shares:
            count = self._running[key] - 1
            if count:
                self._running[key] = count
            else:
                del self._running[key]
            if self._waiting:
                self._requeue_one(key)

    def _requeue_one(self, key: Hashable) -> None:
        """Queue the entry that has waited longest for a share of this key."""
        entries = self._waiting.get(key)
        if not entries:
            return
        entry = entries.popleft()
        if not entries:
            del self._waiting[key]
        (self._resumed if entry.is_resumed else self.queue).appendleft(entry)
