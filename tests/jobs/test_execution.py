"""Execution of jobs: results, failures, and results of starts that are no longer current."""

from __future__ import annotations

import pytest

from chalk_flask.audit.events import read_events
from chalk_flask.jobs.execution import StopRequestedError, execute
from chalk_flask.roster.imports import ImportReport
from chalk_flask.tenants import TenantStore
from tests.jobs.conftest import JobService
from tests.support.packages import PackageBuilder, package_with_users

SMALL = PackageBuilder()


@pytest.mark.every_backend
def test_import_finishes_its_job_with_the_report(service: JobService) -> None:
    job = service.run(service.upload(SMALL))
    [run] = service.runs()
    assert (job.state, job.result, job.run, job.message) == ("finished", "committed", run.id, None)
    assert job.report
    assert ImportReport.from_dict(job.report).total()["created"] > 0
    assert job.report["package"] == "district.zip"
    assert job.report["dateLastModified"] == run.report["dateLastModified"]
    assert (run.who, job.started is not None, job.finished is not None) == ("ada", True, True)
    events = sorted(event["event"] for event in read_events(service.store, "default"))
    assert events == ["import.committed", "job.finished", "job.queued"]


@pytest.mark.parametrize(
    ("package", "result"),
    [(SMALL, "unchanged"), (PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"), "refused")],
)
def test_job_finishes_when_nothing_changes(package: PackageBuilder, result: str, service: JobService) -> None:
    service.run(service.upload(SMALL))
    job = service.run(service.upload(package))
    assert (job.state, job.result, job.run) == ("finished", result, service.runs()[-1].id)
    assert "perhaps" not in str(job.report)
    assert service.files() == []


def test_hold_finishes_its_job_also_if_it_is_held_already(service: JobService) -> None:
    held = service.hold()
    again = service.run(service.upload(package_with_users(150)))
    assert (again.result, again.run) == ("held", held.run)
    assert len(service.runs()) == 2


def test_settings_of_the_tenant_apply(service: JobService) -> None:
    TenantStore(service.store).update("default", invalid_rows="quarantine")
    package = package_with_users(20).set("users", "pupil-2", enabledUser="perhaps")
    job = service.run(service.upload(package))
    assert job.report
    assert (job.result, job.report["quarantined"]) == ("committed", {"users": 1})


def test_import_of_a_start_that_was_superseded_changes_nothing(service: JobService) -> None:
    first = service.jobs.start(service.upload(SMALL))
    second = service.jobs.start(service.jobs.requeue(first, is_crash=True))
    execute(service.store, service.settings, service.jobs, first)
    assert service.runs() == []
    assert service.find(first) == second
    execute(service.store, service.settings, service.jobs, second)
    assert service.find(first).result == "committed"
    assert len(service.runs()) == 1


def test_committed_job_is_not_applied_by_another_start(service: JobService) -> None:
    job = service.jobs.start(service.upload(SMALL))
    execute(service.store, service.settings, service.jobs, job)
    finished = service.find(job)
    service.jobs.upload_path(job).write_bytes(SMALL.zip_bytes())
    execute(service.store, service.settings, service.jobs, job)
    service.jobs.upload_path(job).unlink(missing_ok=True)
    execute(service.store, service.settings, service.jobs, job)
    assert [run.state for run in service.runs() if run.state != "refused"] == ["committed"]
    assert service.find(job) == finished


def test_import_into_a_tenant_that_is_deleted_meanwhile_is_dropped(service: JobService) -> None:
    TenantStore(service.store).create("north")
    job = service.jobs.start(service.upload(SMALL, "north"))
    TenantStore(service.store).delete("north")
    execute(service.store, service.settings, service.jobs, job)
    assert service.jobs.get("north", job.id) is None
    assert service.runs("north") == []


def test_expected_failure_has_its_message(service: JobService) -> None:
    held = service.hold()
    assert held.run
    service.upload(package_with_users(199))
    service.clock.advance(1)
    failed = service.run(service.jobs.approve("default", held.run, requested_by="bob"))
    assert (failed.state, failed.report) == ("failed", None)
    assert failed.message
    assert f"the roster has changed since {held.run}" in failed.message
    assert "job.failed" in [event["event"] for event in read_events(service.store, "default")]


def test_job_whose_package_is_missing_is_rejected(service: JobService) -> None:
    job = service.upload(SMALL)
    service.jobs.upload_path(job).unlink()
    rejected = service.run(job)
    assert (rejected.state, rejected.result) == ("finished", "refused")


def test_stop_leaves_the_job_running_without_an_effect(service: JobService) -> None:
    job = service.jobs.start(service.upload(package_with_users(3000)))

    def stop(phase: str, count: int, total: int | None) -> None:
        raise StopRequestedError

    with pytest.raises(StopRequestedError):
        execute(service.store, service.settings, service.jobs, job, stop)
    assert service.find(job).state == "running"
    assert service.runs() == []
