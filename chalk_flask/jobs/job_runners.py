"""Runners of one job: in a separate process or, for a store that no other process can open, in this process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from pathlib import Path
from typing import Final, Protocol

from filelock import Timeout

from backends import Backend
from chalk_flask.background.python_program import python_command
from chalk_flask.files import make_private_folder
from chalk_flask.jobs.execution import StopRequestedError, execute
from chalk_flask.jobs.process import JobRequest, process_lock
from chalk_flask.jobs.record import Job
from chalk_flask.jobs.store import JobStore
from chalk_flask.settings import Settings

__all__ = ["JobRunner", "ProcessRunner", "ThreadRunner"]

POLL_SECONDS: Final = 0.1
"""Interval at which a running process is checked."""
STOP_TIMEOUT_SECONDS: Final = 5.0
"""Time after which a process that does not stop is killed."""


class JobRunner(Protocol):
    """Runner of one job at a time."""

    def is_busy(self) -> bool:
        """Return True if a process that an earlier service has started still runs a job. Raises OSError."""
        ...

    def run(self, job: Job, stopping: threading.Event) -> bool:
        """Run a job until it ends. Return False if it was stopped before, because `stopping` was set."""
        ...


class ProcessRunner:
    """Runner that starts a process with low priority for each job.

    If the service stops, the process ends and its transaction is rolled back. If the service is killed, the process
    continues, and `is_busy` is True until it ends.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def is_busy(self) -> bool:
        """Return True if a process that an earlier service has started still runs a job. Raises OSError."""
        make_private_folder(self._folder)
        try:
            with process_lock(self._folder):
                return False
        except Timeout:
            return True

    def run(self, job: Job, stopping: threading.Event) -> bool:
        """Run a job until it ends. Return False if it was stopped before, by this service or by a signal."""
        # In a session of its own, the process does not receive Ctrl-C together with the service.
        with subprocess.Popen(
            python_command("chalk_flask.jobs.process"), stdin=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(JobRequest.of(job.tenant, job.id, job.attempt, self._settings).encode())
            while process.poll() is None:
                if stopping.wait(POLL_SECONDS):
                    _stop(process)
        return process.returncode != -signal.SIGTERM and not stopping.is_set()


class ThreadRunner:
    """Runner that runs jobs in the thread of its caller."""

    def __init__(self, store: Backend, settings: Settings, jobs: JobStore) -> None:
        self._store, self._settings, self._jobs = store, settings, jobs

    def is_busy(self) -> bool:
        """Return False: no other process can open the store."""
        return False

    def run(self, job: Job, stopping: threading.Event) -> bool:
        """Run a job until it ends. Return False if it was stopped before, because `stopping` was set."""

        def stop_if_requested(phase: str, count: int, total: int | None) -> None:
            if stopping.is_set():
                raise StopRequestedError

        try:
            execute(self._store, self._settings, self._jobs, job, stop_if_requested)
        except StopRequestedError:
            return False
        return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
