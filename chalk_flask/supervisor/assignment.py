"""Assignment of a serving process: its sockets, and the connection by which it reports to the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Assignment", "Report"]

ORPHAN_SECONDS: Final = 40.0
"""Time after which a process whose supervisor has died ends in any case. Active requests may take 30 seconds."""
COVER_BIT: Final = 0x80
"""Bit of a byte from the supervisor: 1 to cover a slot, 0 to stop that. The other bits are the number of the slot."""


class Report(bytes, Enum):
    """Report of a serving process to the supervisor, a single byte."""

    READY = b"R"
    ALIVE = b"A"
    STOPPING = b"S"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Slot and number of a process, the listening sockets of all slots, and the connection to the supervisor.

    A number is used again when its process has ended.
    """

    slot: int
    number: int
    listeners: Sequence[Sequence[socket.socket]]
    control: socket.socket

    @property
    def own_listeners(self) -> Sequence[socket.socket]:
        """Listening sockets of the slot."""
        return self.listeners[self.slot]

    @property
    def other_listeners(self) -> dict[int, Sequence[socket.socket]]:
        """Listening sockets of each other slot."""
        return {slot: sockets for slot, sockets in enumerate(self.listeners) if slot != self.slot}

    def connect(self) -> SupervisorConnection:
        """Return the connection to the supervisor."""
        return SupervisorConnection(self.control)


class SupervisorConnection:
    """Connection of a serving process to its supervisor. Thread-safe. A report never waits, and never fails."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def watch(self, on_cover: Callable[[frozenset[int]], None] = lambda _: None) -> None:
        """Start a thread that stops this process, as SIGTERM does, when the supervisor has died.

        The thread calls `on_cover` with the slots that this process must cover, whenever the supervisor changes them.
        """
        threading.Thread(target=self._run, args=(on_cover,), name="supervisor watch", daemon=True).start()

    def report(self, report: Report) -> None:
        """Send a report. It is dropped if the supervisor does not read, or is dead."""
        try:
            self._connection.send(report.value, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return

    def _run(self, on_cover: Callable[[frozenset[int]], None]) -> None:
        covered: set[int] = set()
        while changes := self._receive():
            for change in changes:
                slot = change & ~COVER_BIT
                covered = covered | {slot} if change & COVER_BIT else covered - {slot}
            on_cover(frozenset(covered))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    def _receive(self) -> bytes:
        """Return the next bytes of the supervisor; empty if it has died."""
        try:
            return self._connection.recv(64)
        except OSError:
            return b""
