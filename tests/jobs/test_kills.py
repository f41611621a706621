"""Server and process killed at random moments of an import in the console: the store is in the old or the new state."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import orjson
import pytest
import requests

from backends import Query
from chalk_flask.audit.events import read_events
from chalk_flask.jobs.record import ALL_STATES, Job, list_jobs
from chalk_flask.jobs.worker import CRASH_MESSAGE
from chalk_flask.tenants import TenantStore
from tests.jobs.conftest import JobService
from tests.jobs.servers import JobServer, child_processes, running_server
from tests.support.console.uploads import send_package, signed_in_browser
from tests.support.deliveries import wait_until
from tests.support.packages import package_with_extra_users

KILLS = {"sqlite": 20, "json": 4}
"""Number of kills by backend."""
USERS = 1000
MIN_LONGEST_SECONDS, MAX_LONGEST_SECONDS = 2.2, 5.0
"""Bounds of the longest time from the beginning of an upload to a kill. An import usually takes less than 2 seconds."""
AT_WORK = 3
"""Number of the import that is killed as soon as its job runs, with the server."""
SECOND_KILL = 5
"""Each import of this number is killed again when it is repeated, so that it fails."""

pytestmark = [pytest.mark.slow, pytest.mark.on_backend("sqlite", "json")]


class KilledConsole:
    """Service whose server is started again after each kill, and an administrator who uploads packages."""

    def __init__(self, service: JobService) -> None:
        self._service, self._stack = service, ExitStack()
        self._browser = signed_in_browser(service.store, service.settings.data)
        self.server = self._start()
        self.upload_status: int | None = None

    def close(self) -> None:
        """Kill the server."""
        self._stack.close()

    def upload(self, name: str, seconds: float | None, target: str) -> None:
        """Begin to upload a package whose users have a name, and kill something after so many seconds.

        With None, it is killed as soon as a job runs.
        """
        self.upload_status = None
        content = package_with_extra_users(range(USERS), name).zip_bytes()
        upload = threading.Thread(target=self._upload, args=[content])
        upload.start()
        if seconds is None:
            wait_until(lambda: any(job.state == "running" for job in names_and_jobs(self._service)[1]))
        else:
            time.sleep(seconds)
        self.kill(target)
        upload.join()

    def kill(self, target: str) -> None:
        """Kill the server, the process of its job, or both."""
        children = child_processes(self.server.process.pid)
        if target != "process":
            self.server.process.kill()
        if target != "server":
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def restart(self) -> None:
        """Start the server again if it was killed. A process that was not killed may still run."""
        try:
            self.server.process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
        self._stack.close()
        self.server = self._start()

    def _start(self) -> JobServer:
        return self._stack.enter_context(running_server(self._service.settings))

    def _upload(self, content: bytes) -> None:
        with suppress(requests.RequestException):
            self.upload_status = send_package(self._browser, self.server.url, content).status_code


@contextmanager
def console_of(service: JobService) -> Iterator[KilledConsole]:
    """Run a server until the block ends. The worker of the service is closed, because the server needs its lock."""
    service.worker.close()
    console = KilledConsole(service)
    try:
        yield console
    finally:
        console.close()


def names_and_jobs(service: JobService) -> tuple[Counter[str], list[Job]]:
    """Return the number of users with each given name, and the jobs, oldest first, both at the same time."""
    with service.store.read("default") as snapshot:
        users = orjson.loads(b"[%s]" % snapshot.find(Query("users")).body())
        jobs = list_jobs(snapshot, *ALL_STATES)
    return Counter(user["givenName"] for user in users if user["givenName"].startswith("Name")), jobs


def check_state(service: JobService, previous: str, name: str, jobs_before: int) -> Job | None:
    """Assert that the store is in the old or the new state, and that the job says which. Return the job."""
    names, jobs = names_and_jobs(service)
    assert len(jobs) <= jobs_before + 1
    job = jobs[-1] if len(jobs) > jobs_before else None
    assert names == {name if job is not None and job.state == "finished" else previous: USERS}
    return job


def wait_for_jobs(service: JobService) -> None:
    wait_until(lambda: not any(job.is_active for job in names_and_jobs(service)[1]), 300)


def check_every_job_took_effect_once(service: JobService) -> Counter[str]:
    """Assert that each finished job has one run and one event, and other jobs none. Return the number by state."""
    jobs = names_and_jobs(service)[1]
    finished = [job for job in jobs if job.state == "finished"]
    assert [job.result for job in finished] == ["committed"] * len(finished)
    assert [(run.id, run.state) for run in service.runs()] == [(job.run, "committed") for job in finished]
    events = Counter(
        event["job"] for event in read_events(service.store, "default") if event["event"] == "job.finished"
    )
    assert events == Counter(job.id for job in finished)
    assert all(job.message == CRASH_MESSAGE for job in jobs if job.state == "failed")
    return Counter(job.state for job in jobs)


def test_killed_imports_take_effect_once_or_not_at_all(service: JobService, backend: str) -> None:
    rng, targets, current = random.Random(4), itertools.cycle(("server", "process", "both")), "Name0"
    TenantStore(service.store).update("default", max_changed="off")
    began = time.monotonic()
    service.run(service.upload(package_with_extra_users(range(USERS), current)))
    longest = min(max(1.5 * (time.monotonic() - began), MIN_LONGEST_SECONDS), MAX_LONGEST_SECONDS)
    moments: Counter[str] = Counter()
    with console_of(service) as console:
        for number in range(1, KILLS[backend] + 1):
            name, jobs_before = f"Name{number}", len(names_and_jobs(service)[1])
            console.upload(name, None if number == AT_WORK else rng.uniform(0, longest), next(targets))
            job = check_state(service, current, name, jobs_before)
            assert job is not None or console.upload_status != 303
            moments[job.state if job else "no job"] += 1
            console.restart()
            if number % SECOND_KILL == 0:
                time.sleep(rng.uniform(0, longest))
                console.kill("both")
                check_state(service, current, name, jobs_before)
                console.restart()
            wait_for_jobs(service)
            job = check_state(service, current, name, jobs_before)
            current = name if job is not None and job.state == "finished" else current
    states = check_every_job_took_effect_once(service)
    assert states["finished"] > KILLS[backend] // 2
    assert moments["running"] > 0
