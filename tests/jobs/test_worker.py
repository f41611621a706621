"""Worker: order of jobs, recovery after crashes, and its thread."""

from __future__ import annotations

import pytest

from chalk_flask.background.leader_lock import leader_lock_for
from chalk_flask.jobs import Job
from chalk_flask.jobs.worker import CRASH_MESSAGE
from chalk_flask.tenants import TenantStore
from tests.jobs.conftest import JobService
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder, package_with_users

SMALL = PackageBuilder()


def crash(service: JobService, job: Job) -> Job:
    """Start a job, and leave it as a process that is killed does."""
    return service.jobs.start(service.find(job))


def test_jobs_of_all_tenants_run_in_the_order_of_their_creation(service: JobService) -> None:
    TenantStore(service.store).create("north")
    jobs = []
    for tenant in ("north", "default", "north"):
        jobs.append(service.upload(SMALL, tenant))
        service.clock.advance(1)
    service.worker.run_pending()
    ended = [service.find(job) for job in jobs]
    assert [job.result for job in ended] == ["committed", "committed", "unchanged"]
    assert [run.id for run in service.runs("north")] == [ended[0].run, ended[2].run]


@pytest.mark.every_backend
def test_job_that_crashed_once_runs_again(service: JobService) -> None:
    job = crash(service, service.upload(SMALL))
    done = service.run(job)
    assert (done.result, done.attempt, done.crashes) == ("committed", 2, 1)
    assert len(service.runs()) == 1


def test_job_that_crashed_twice_has_failed(service: JobService) -> None:
    job = service.upload(SMALL)
    crash(service, job)
    service.jobs.requeue(service.find(job), is_crash=True)
    crash(service, job)
    failed = service.run(job)
    assert (failed.state, failed.message, failed.report) == ("failed", CRASH_MESSAGE, None)
    assert service.files() == []
    assert service.runs() == []


def test_interrupted_job_does_not_count_as_crashed(service: JobService) -> None:
    job = service.upload(SMALL)
    for _ in range(5):
        crash(service, job)
        service.jobs.requeue(service.find(job), is_crash=False)
    assert service.run(job).result == "committed"


def test_file_of_a_job_that_ended_before_the_crash_is_deleted(service: JobService) -> None:
    job = service.upload(SMALL)
    path = service.jobs.upload_path(job)
    service.run(job)
    path.write_bytes(b"")
    service.worker._clean_up()
    assert service.files() == []


@pytest.mark.on_backend("sqlite")
def test_worker_without_the_leader_lock_runs_nothing(service: JobService) -> None:
    settings = service.settings
    lock = leader_lock_for("jobs", settings.storage, service.jobs.folder.parents[1], shared=True)
    assert lock.try_acquire()
    job = service.upload(SMALL)
    assert service.run(job).state == "queued"
    lock.release()


def test_started_worker_runs_a_job_when_it_is_queued(service: JobService) -> None:
    service.worker.start()
    job = service.upload(SMALL)
    wait_until(lambda: not service.find(job).is_active)
    assert service.find(job).result == "committed"


@pytest.mark.on_backend("sqlite")
def test_worker_is_running_from_start_to_close_without_jobs(service: JobService) -> None:
    assert not service.worker.is_running_anywhere()
    service.worker.start()
    wait_until(service.worker.is_running_anywhere)
    service.worker.close()
    assert not service.worker.is_running_anywhere()


def test_closed_worker_queues_its_job_again(service: JobService) -> None:
    service.worker.start()
    job = service.upload(package_with_users(20_000))
    wait_until(lambda: service.jobs.progress(service.find(job)) is not None)
    service.worker.close()
    stopped = service.find(job)
    assert (stopped.state, stopped.crashes) == ("queued", 0)
    assert service.runs() == []
