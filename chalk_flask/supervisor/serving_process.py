"""Serving process as its supervisor sees it, and the launcher that starts one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

import chalk_flask
from chalk_flask.supervisor.assignment import ASSIGNMENT_VARIABLE, COVER_BIT, Assignment, Report
from chalk_flask.supervisor.service_manager import NOTIFY_VARIABLES

__all__ = ["Launcher", "ServingProcess"]

# The program is not started with -m, which would also search modules in the working directory.
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from chalk_flask.cli import main; main(prog_name='chalk-flask')"
)
_PACKAGE_FOLDER: Final = str(Path(chalk_flask.__file__).parents[1])


class ServingProcess:
    """Process that serves the sockets of a slot. Times are those of `time.monotonic`, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, slot: int, number: int) -> None:
        self._process = process
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
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, as in `Popen.returncode`; None while the process runs."""
        return self._process.poll()

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
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.wait()

    def close(self) -> None:
        """Close the connection of a process that has ended."""
        self.control.close()


class Launcher:
    """Launcher of serving processes: each runs the command with the same arguments as this process.

    `environ` are further variables of their environment.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], program: Sequence[str] = ()) -> None:
        self._command = [*(program or (sys.executable, "-P", "-c", _PROGRAM, _PACKAGE_FOLDER)), *arguments]
        self._environ = {name: value for name, value in os.environ.items() if name not in NOTIFY_VARIABLES}
        self._environ.update(environ)

    def start(self, slot: int, number: int, listeners: Sequence[Sequence[socket.socket]]) -> ServingProcess:
        """Start the process of a slot. `listeners` are the sockets of all slots. Raises OSError."""
        own_end, child_end = socket.socketpair()
        with child_end:
            descriptors = [[each.fileno() for each in sockets] for sockets in listeners]
            assignment = Assignment(slot, number, descriptors, child_end.fileno())
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(*chain.from_iterable(descriptors), child_end.fileno()),
                    env=self._environ | {ASSIGNMENT_VARIABLE: assignment.encode()},
                    process_group=0,  # so that it does not receive Ctrl-C together with the supervisor
                )
            except OSError:
                own_end.close()
                raise
        return ServingProcess(process, own_end, slot, number)
