"""Server and process killed at random moments: the store is in the old or the new state, and the job says which."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial

import pytest

from backends import Query
from chalk_flask.jobs.record import Job, find_job
from chalk_flask.tenants import TenantStore
from tests.jobs.conftest import JobService
from tests.jobs.servers import child_processes, has_ended, has_started, running_server, wait_for_orphans
from tests.support.deliveries import wait_until
from tests.support.packages import package_with_extra_users

KILLS = 6
USERS = 3000
MAX_SECONDS = 3.0
"""Longest time from the start of a job to a kill. A job takes about two seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.on_backend("sqlite")]


def count_names(service: JobService, name: str, job: Job) -> tuple[int, Job]:
    """Return the number of users with this given name, and the job, at the same time."""
    with service.store.read("default") as snapshot:
        count = snapshot.find(Query("users")).body().count(f'"givenName":"{name}"'.encode())
        found = find_job(snapshot, job.id)
    assert found
    return count, found


def kill(server: subprocess.Popen[str], target: str) -> None:
    """Kill the server, the process of its job, or both."""
    children = child_processes(server.pid)
    if target != "process":
        server.kill()
    if target != "server":
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def check_effect(service: JobService, job: Job, number: int) -> None:
    """Assert that the roster has the effect of a job, and that each job had its effect once."""
    count, found = count_names(service, f"Name{number}", job)
    assert (count, found.result) == (USERS, "committed")
    runs = service.runs()
    assert [run.state for run in runs] == ["committed"] * (number + 1)
    assert runs[-1].id == found.run


def test_killed_jobs_take_effect_once_or_not_at_all(service: JobService) -> None:
    rng, targets = random.Random(4), itertools.cycle(("server", "process", "both"))
    TenantStore(service.store).update("default", max_changed="off")
    job = service.run(service.upload(package_with_extra_users(range(USERS), "Name0")))
    service.worker.close()  # the servers need its lock
    finished_before_the_kill = 0
    for number in range(KILLS + 1):
        with running_server(service.settings) as server:
            wait_until(partial(has_ended, service, job), 60)
            check_effect(service, job, number)
            wait_until(lambda: not service.files(), 60)
            if number == KILLS:
                break
            name = f"Name{number + 1}"
            job = service.upload(package_with_extra_users(range(USERS), name))
            wait_until(partial(has_started, service, job), 60)
            time.sleep(rng.uniform(0, MAX_SECONDS))
            kill(server, next(targets))
            count, found = count_names(service, name, job)
            assert count == (USERS if found.state == "finished" else 0)
            assert found.state in ("queued", "running", "finished")
            finished_before_the_kill += found.state == "finished"
        wait_for_orphans(service.settings, service.jobs.folder)
    assert finished_before_the_kill < KILLS
