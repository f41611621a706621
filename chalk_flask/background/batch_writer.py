"""Background thread that writes, in batches, what requests have queued."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

__all__ = ["BatchWriter"]


class BatchWriter:
    """Background thread that calls a `write` function while there is work. Thread-safe.

    `write` writes the queued work. It returns the seconds until the next call, or None if the queue is empty. After
    None the thread ends, and the next `wake` starts another one. Calls never overlap. The first call comes `delay`
    seconds after the `wake` that started the thread.

    The writer survives a fork and an exception of `write`: the next `wake` starts a new thread. With `flush_at_exit`
    it is closed when the interpreter exits.
    """

    def __init__(
        self, name: str, write: Callable[[], float | None], *, delay: float, flush_at_exit: bool = False
    ) -> None:
        self._name = name
        self._write = write
        self._delay = delay
        self._flush_at_exit = flush_at_exit
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._woken = False
        self._process_id = 0
        self._thread: threading.Thread | None = None

    @property
    def is_closing(self) -> bool:
        """True once `close` was called: the current call of `write` is the last one."""
        return self._closing.is_set()

    def wake(self) -> None:
        """Schedule a call of `write`. Call this whenever work was queued. It never waits."""
        # The thread clears the flag before it calls `write`, which then sees the work. Most calls return here.
        if self._woken and self._process_id == os.getpid():
            return
        with self._lock:
            self._woken = True
            # A forked process has the thread object of its parent, but no running thread.
            if (self._thread is None or not self._thread.is_alive()) and not self._closing.is_set():
                self._start()

    def close(self, timeout: float | None = 5.0) -> None:
        """End the current pause, call `write` for the last time, and end the thread.

        Waits at most `timeout` seconds for the thread. Without a thread `write` is called here, and its exceptions come
        through. Closing again is harmless; `wake` starts no thread any more.
        """
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(timeout)
        else:
            self._write()
        atexit.unregister(self.close)

    def _start(self) -> None:
        if self._flush_at_exit:
            atexit.unregister(self.close)  # one call at exit is enough, however many threads were started
            atexit.register(self.close)
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: the next `wake` tries again
            self._woken = False
        else:
            self._thread = thread
            self._process_id = os.getpid()

    def _run(self) -> None:
        try:
            self._write_until_idle()
        except BaseException:
            with self._lock:
                self._thread, self._woken = None, False
            raise

    def _write_until_idle(self) -> None:
        pause: float | None = self._delay
        while not self._closing.wait(pause):
            self._woken = False
            pause = self._write()
            if pause is None:
                with self._lock:
                    if not self._woken:
                        self._thread = None
                        return
                    pause = self._delay
        self._write()
