"""Process that runs one job with low priority, so that requests stay fast. `runner.ProcessRunner` starts it.

It receives the job and the settings as a JSON object on stdin. The settings may contain a password, and other users can
read command lines and environments.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from filelock import FileLock, Timeout

from chalk_flask.files import create_private_file
from chalk_flask.logs import configure_logging
from chalk_flask.settings import SETTINGS, Settings

__all__ = ["JobRequest", "lower_priority", "main", "process_lock"]

NICENESS: Final = 10
"""Increment of the nice value of the process."""
LOCK_FILE: Final = ".running.lock"
LOCK_TIMEOUT_SECONDS: Final = 60.0
"""Time to wait for a process of a killed service. It ends at once when it finds that its job was started again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Job to run: its tenant, its id, the number of its start (`Job.attempt`), and the settings of the service."""

    tenant: str
    job: str
    attempt: int
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, tenant: str, job: str, attempt: int, settings: Settings) -> JobRequest:
        """Return the request for a job with these settings."""
        return cls(
            tenant,
            job,
            attempt,
            {setting.name: getattr(settings, setting.name) for setting in SETTINGS if not setting.secret},
        )

    def encode(self) -> bytes:
        """Return the JSON that the process reads."""
        return orjson.dumps(asdict(self))

    def to_settings(self) -> Settings:
        """Return the settings, without those that this version of the program does not have."""
        names = {setting.name for setting in SETTINGS}
        return Settings(**{name: value for name, value in self.settings.items() if name in names})


def process_lock(folder: Path, timeout: float = 0.0) -> FileLock:
    """Return the lock that the process holds in the folder of the jobs, until it ends. Raises OSError."""
    create_private_file(folder / LOCK_FILE)
    return FileLock(folder / LOCK_FILE, timeout=timeout, mode=0o600)


def lower_priority() -> None:
    """Lower the priority of this process, unless a sandbox forbids it."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)


def main() -> None:
    """Run the job that stdin describes."""
    lower_priority()
    request = JobRequest(**orjson.loads(sys.stdin.buffer.read()))
    settings = request.to_settings()
    configure_logging(settings)
    from chalk_flask.jobs.store import jobs_folder

    try:
        with process_lock(jobs_folder(settings), LOCK_TIMEOUT_SECONDS):
            _run(request, settings)
    except Timeout:
        log.warning("job %s does not start: another process runs a job", request.job)


def _run(request: JobRequest, settings: Settings) -> None:
    from backends import open_store
    from chalk_flask.jobs.execution import execute
    from chalk_flask.jobs.store import JobStore
    from chalk_flask.storage import COLLECTIONS

    with open_store(settings.storage, COLLECTIONS) as store:
        jobs = JobStore.of(store, settings)
        job = jobs.get(request.tenant, request.job)
        if job is not None and (job.state, job.attempt) == ("running", request.attempt):
            execute(store, settings, jobs, job)


if __name__ == "__main__":
    main()
