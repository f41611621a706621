"""Server processes that run jobs, and the processes that they start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from chalk_flask.jobs import Job
from chalk_flask.jobs.job_runners import ProcessRunner
from chalk_flask.settings import Settings
from tests.jobs.conftest import JobService
from tests.support.deliveries import wait_until
from tests.support.paths import ROOT

__all__ = ["JobServer", "child_processes", "has_ended", "has_started", "running_server", "wait_for_orphans"]


class JobServer(NamedTuple):
    """Process of a server, and its URL."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def running_server(settings: Settings) -> Iterator[JobServer]:
    """Serve the store in one process until the block ends, and kill it then. So it is the one that runs the jobs."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    command = [sys.executable, "-m", "chalk_flask", "serve", "--port", "0", "--processes", "1"]
    with subprocess.Popen(
        [*command, "--storage", settings.storage, "--data", settings.data, "--log-level", "error"],
        cwd=Path(settings.data).parent,
        env=environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr
            while (found := re.search(r"Listening on (\S+)", line := process.stderr.readline())) is None:
                assert line, "the server has ended"
            yield JobServer(process, found[1])
        finally:
            process.kill()


def child_processes(pid: int) -> list[int]:
    """Return the ids of the running processes that a process has started."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                children.append(int(path.parent.name))
    return children


def has_started(service: JobService, job: Job, attempt: int = 1) -> bool:
    """Return True if a job was started so many times."""
    return service.find(job).attempt >= attempt


def has_ended(service: JobService, job: Job) -> bool:
    """Return True if a job is neither queued nor running."""
    return not service.find(job).is_active


def wait_for_orphans(settings: Settings, folder: Path) -> None:
    """Wait until no process runs a job of a server that was killed."""
    runner = ProcessRunner(settings, folder)
    wait_until(lambda: not runner.is_busy(), 180)
