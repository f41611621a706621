"""Thread that repeats a task, such as delivering webhooks, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from backends import StorageError
from chalk_flask.tracebacks import RepeatedErrors, error_location

__all__ = ["PollingThread"]


class PollingThread:
    """Thread that calls `poll` again and again, from `start` to `stop`. No error ends it.

    `poll` returns the seconds until the next call. The first call begins `delay` seconds after the start. After an
    error, the next one begins after `error_pause` seconds. `log_error` gets a level and the text of the error. The same
    error in a row has `level` once, and then DEBUG. `stop` sets `stopping`, so that a long task can end early.
    """

    def __init__(
        self,
        name: str,
        poll: Callable[[], float],
        log_error: Callable[[int, str], object],
        *,
        error_pause: float,
        delay: float = 0.0,
        level: int = logging.ERROR,
    ) -> None:
        self.stopping = threading.Event()
        self._poll, self._log_error, self._level = poll, log_error, level
        self._delay, self._error_pause = delay, error_pause
        self._wakeup = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._errors = RepeatedErrors()

    @property
    def is_started(self) -> bool:
        """True after `start`, also if the thread has ended since."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Start to call `poll`. Call it once."""
        self._thread.start()

    def wake(self) -> None:
        """Call `poll` now, instead of waiting for the end of the pause."""
        self._wakeup.set()

    def stop(self, timeout: float | None = None) -> None:
        """Stop, and wait at most `timeout` seconds for the end of a call; None waits without a limit."""
        self.stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = self._delay
        while not self._wait(pause):
            try:
                pause = self._poll()
                self._errors.clear()
            except (StorageError, OSError) as error:
                pause = self._pause_after_error(str(error))
            except Exception as error:  # noqa: BLE001 - no error may end the thread
                pause = self._pause_after_error(error_location(error))

    def _wait(self, seconds: float) -> bool:
        """Wait until the time has passed or `wake` is called. Return True if the thread has to end."""
        self._wakeup.wait(seconds)
        self._wakeup.clear()
        return self.stopping.is_set()

    def _pause_after_error(self, message: str) -> float:
        if not self.stopping.is_set():
            self._log_error(self._errors.level(message, self._level), message)
        return self._error_pause
