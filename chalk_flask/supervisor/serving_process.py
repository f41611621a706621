"""Serving process as its supervisor sees it, and the launcher that starts one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.context import ForkProcess
from typing import Final, Protocol

from chalk_flask.supervisor.assignment import COVER_BIT, Assignment, Report
from chalk_flask.supervisor.signals import blocked_signals, restore_signals

__all__ = ["Closable", "Launcher", "ServingProcess"]

_FORK: Final = multiprocessing.get_context("fork")


class Closable(Protocol):
    """Object with a descriptor that a process can close."""

    def close(self) -> None:
        """Close the descriptor of this process."""


class ServingProcess:
    """Process that serves the sockets of a slot. Times are those of `time.monotonic`, in seconds."""

    def __init__(self, process: ForkProcess, control: socket.socket, slot: int, number: int) -> None:
        assert process.pid is not None
        self._process = process
        self.pid = process.pid
        self.control = control
        self.slot = slot
        self.number = number
        self.started = self.last_report = time.monotonic()
        self.is_ready = False
        self.is_stopping = False
        """True once the process accepts no more connections."""
        self.kill_at: float | None = None
        """Time at which the process is killed unless it has ended."""
        self._covered: frozenset[int] = frozenset()

    @property
    def status(self) -> int | None:
        """Exit status, as in `Popen.returncode`; None while the process runs."""
        return self._process.exitcode

    @property
    def serves(self) -> bool:
        """True if the process serves or is about to."""
        return not self.is_stopping and self.status is None

    def read_reports(self) -> None:
        """Read the reports that have arrived."""
        with suppress(OSError):
            for code in self.control.recv(4096, socket.MSG_DONTWAIT):
                self.last_report = time.monotonic()
                self.is_ready = self.is_ready or bytes([code]) == Report.READY.value
                self.is_stopping = self.is_stopping or bytes([code]) == Report.STOPPING.value

    def cover(self, slots: frozenset[int]) -> None:
        """Make the process accept connections of these slots too, and of no others but its own."""
        begun, ended = slots - self._covered, self._covered - slots
        if begun or ended:
            with suppress(OSError):
                self.control.send(bytes([*(slot | COVER_BIT for slot in begun), *ended]), socket.MSG_DONTWAIT)
                self._covered = slots

    def stop(self, timeout: float) -> None:
        """Make the process complete its requests and end. Set `kill_at` to `timeout` seconds from now.

        A second call ends the process at once.
        """
        self.is_stopping = True
        self.kill_at = self.kill_at or time.monotonic() + timeout
        self._process.terminate()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.join()

    def close(self) -> None:
        """Close the connection and the descriptors of a process that has ended."""
        self.control.close()
        self._process.close()


class Launcher:
    """Launcher of serving processes. Each is a fork of this process, so it starts fast and shares its modules.

    `serve` runs in the new process with its assignment. An exception ends the process with exit code 1, and SystemExit
    with its own. This process may have no other thread, and no open store.
    """

    def __init__(self, serve: Callable[[Assignment], None]) -> None:
        self._serve = serve

    def start(
        self, slot: int, number: int, listeners: Sequence[Sequence[socket.socket]], inherited: Sequence[Closable]
    ) -> ServingProcess:
        """Start the process of a slot. `listeners` are the sockets of all slots. The process closes `inherited`.

        Raises OSError.
        """
        own_end, child_end = socket.socketpair()
        assignment = Assignment(slot, number, listeners, child_end)
        process = _FORK.Process(target=_run, args=(self._serve, assignment, (own_end, *inherited)))
        with child_end, blocked_signals():
            try:
                process.start()
            except OSError:
                own_end.close()
                raise
        return ServingProcess(process, own_end, slot, number)


def _run(serve: Callable[[Assignment], None], assignment: Assignment, inherited: Sequence[Closable]) -> None:
    """Serve in the new process. Its own process group keeps Ctrl-C of the terminal from it."""
    os.setpgid(0, 0)
    for each in inherited:
        each.close()
    restore_signals()
    serve(assignment)
