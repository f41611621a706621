"""Assignment of a serving process: its sockets, and the connection by which it reports to the supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final, Self

__all__ = ["ASSIGNMENT_VARIABLE", "Assignment", "Report"]

ASSIGNMENT_VARIABLE: Final = "_CHALK_FLASK_ASSIGNMENT"
"""Environment variable with the assignment as JSON. Its name is not that of a setting."""
ORPHAN_SECONDS: Final = 40.0
"""Time after which a process whose supervisor has died ends in any case. Active requests may take 30 seconds."""


class Report(bytes, Enum):
    """Report of a serving process to the supervisor, a single byte."""

    READY = b"R"
    ALIVE = b"A"
    STOPPING = b"S"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Descriptors of the listening sockets and of the connection to the supervisor, and the number of the process.

    A number is used again when its process has ended. Methods that report never wait, and never fail.
    """

    number: int
    listeners: Sequence[int]
    control: int

    @classmethod
    def take(cls) -> Self | None:
        """Return the assignment of this process, or None without a supervisor. Processes of this one do not see it."""
        text = os.environ.pop(ASSIGNMENT_VARIABLE, None)
        return None if text is None else cls(**json.loads(text))

    def encode(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(asdict(self))

    def open_listeners(self) -> list[socket.socket]:
        """Return the listening sockets. Call it once."""
        return [_without_inheritance(socket.socket(fileno=descriptor)) for descriptor in self.listeners]

    def open_control(self) -> SupervisorConnection:
        """Return the connection to the supervisor. Call it once."""
        return SupervisorConnection(_without_inheritance(socket.socket(fileno=self.control)))


class SupervisorConnection:
    """Connection of a serving process to its supervisor. Thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def stop_with_supervisor(self) -> None:
        """Stop this process as SIGTERM does when the supervisor has died. Starts a thread that waits for that."""
        threading.Thread(target=self._wait_for_death, name="supervisor watch", daemon=True).start()

    def report(self, report: Report) -> None:
        """Send a report. It is dropped if the supervisor does not read, or is dead."""
        try:
            self._connection.send(report.value, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return

    def _wait_for_death(self) -> None:
        self._read_to_end()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    def _read_to_end(self) -> None:
        try:
            while self._connection.recv(64):
                pass
        except OSError:
            return


def _without_inheritance(opened: Any) -> Any:
    opened.set_inheritable(False)
    return opened
