"""Delays before dead processes are replaced, and detection of crash loops."""

from __future__ import annotations

import signal
from collections import deque
from typing import Final

__all__ = ["CrashLoopError", "RestartPolicy", "describe_exit"]

EARLY_SECONDS: Final = 10.0
"""Age below which the death of a process is early."""
MAX_EARLY_DEATHS: Final = 5
"""Number of early deaths that are a crash loop, if they happen within CRASH_LOOP_SECONDS."""
CRASH_LOOP_SECONDS: Final = 60.0
DELAYS_SECONDS: Final = (0.0, 0.5, 1.0, 2.0)
"""Delay before a process is replaced, by the number of early deaths before its own."""


class CrashLoopError(Exception):
    """Error of processes that end again and again soon after their start."""


class RestartPolicy:
    """Policy of replacements: each early death delays the next start, and too many of them are a crash loop.

    A death by SIGKILL does not count, because the program did not fail: a person killed it, or the system did for lack
    of memory.
    """

    def __init__(self) -> None:
        self._early_deaths: deque[float] = deque()

    def delay_after(self, status: int, age: float, now: float, *, was_ready: bool) -> float:
        """Return the seconds until a dead process is replaced. `status` is its exit status, as in `Popen.returncode`.

        Raises CrashLoopError.
        """
        while self._early_deaths and self._early_deaths[0] < now - CRASH_LOOP_SECONDS:
            self._early_deaths.popleft()
        if status == -signal.SIGKILL:
            return 0.0 if was_ready else DELAYS_SECONDS[1]
        if age >= EARLY_SECONDS:
            return 0.0
        self._early_deaths.append(now)
        if len(self._early_deaths) >= MAX_EARLY_DEATHS:
            raise CrashLoopError(
                f"{MAX_EARLY_DEATHS} serving processes ended within {EARLY_SECONDS:.0f} seconds of their start, the"
                f" last one with {describe_exit(status)}: correct the reason, which is in the log, and start again"
            )
        return DELAYS_SECONDS[len(self._early_deaths) - 1]


def describe_exit(status: int) -> str:
    """Return the exit code, or the name of the signal that ended a process."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
