"""Process of a job: priority, secrets, Ctrl-C, and what a stop of the server does to it."""

from __future__ import annotations

import errno
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from chalk_flask.jobs.process import NICENESS, lower_priority
from tests.jobs.conftest import JobService
from tests.jobs.servers import child_processes, has_started, running_server, wait_for_orphans
from tests.support.deliveries import wait_until
from tests.support.packages import package_with_users

pytestmark = [pytest.mark.slow, pytest.mark.on_backend("sqlite")]

TIMEOUT_SECONDS = 180.0

PACKAGE = package_with_users(5000)


def test_forbidden_change_of_the_priority_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(increment: int) -> int:
        raise PermissionError(errno.EPERM, "a system call filter forbids it")

    monkeypatch.setattr(os, "nice", forbid)
    lower_priority()


def wait_for_process(pid: int) -> int:
    wait_until(lambda: child_processes(pid), TIMEOUT_SECONDS)
    [child] = child_processes(pid)
    return child


def test_process_has_low_priority_and_shows_no_settings(service: JobService) -> None:
    job = service.upload(PACKAGE)
    with running_server(service.settings) as server:
        child = wait_for_process(server.process.pid)
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, child) == NICENESS, TIMEOUT_SECONDS)
        command = Path(f"/proc/{child}/cmdline").read_text()
        environ = Path(f"/proc/{child}/environ").read_bytes()
        assert environ == Path(f"/proc/{server.process.pid}/environ").read_bytes()
        for secret in (service.settings.storage, service.settings.data, job.id):
            assert secret not in command
        assert os.getsid(child) != os.getsid(server.process.pid)
        wait_until(lambda: not service.find(job).is_active, TIMEOUT_SECONDS)
    assert service.find(job).result == "committed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_of_the_server_queues_its_job_again(number: int, service: JobService) -> None:
    job = service.upload(PACKAGE)
    with running_server(service.settings) as server:
        child = wait_for_process(server.process.pid)
        wait_until(lambda: service.find(job).state == "running", TIMEOUT_SECONDS)
        server.process.send_signal(number)
        assert server.process.wait(TIMEOUT_SECONDS) == 0
    assert not Path(f"/proc/{child}").exists()
    stopped = service.find(job)
    assert (stopped.state, stopped.crashes) == ("queued", 0)
    assert service.runs() == []
    done = service.run(job)
    assert (done.result, done.attempt) == ("committed", 2)


def test_process_outlives_a_killed_server(service: JobService) -> None:
    job = service.upload(PACKAGE)
    with running_server(service.settings) as server:
        child = wait_for_process(server.process.pid)
        wait_until(lambda: service.jobs.progress(service.find(job)) is not None, TIMEOUT_SECONDS)
    service.worker.run_pending()
    assert Path(f"/proc/{child}").exists()
    assert service.find(job).state == "running", "the process holds the lock, so no other one runs the job"
    wait_for_orphans(service.settings, service.jobs.folder)
    done = service.run(job)
    assert (done.result, done.attempt, done.crashes) == ("committed", 1, 0)
    assert len(service.runs()) == 1


def test_job_whose_process_is_killed_twice_has_failed(service: JobService) -> None:
    job = service.upload(PACKAGE)
    with running_server(service.settings) as server:
        for attempt in (1, 2):
            wait_until(partial(has_started, service, job, attempt), TIMEOUT_SECONDS)
            os.kill(wait_for_process(server.process.pid), signal.SIGKILL)
        wait_until(lambda: not service.find(job).is_active, TIMEOUT_SECONDS)
    failed = service.find(job)
    assert failed.state == "failed"
    assert "ended twice without a result" in str(failed.message)
    assert service.runs() == []
