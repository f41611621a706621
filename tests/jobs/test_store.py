"""Job store: queueing of uploads, dry runs and approvals, and what a queue rejects."""

from __future__ import annotations

import pytest

from backends import Query, copy_store, open_store
from chalk_flask.audit.events import read_events
from chalk_flask.jobs import JobError, JobStore, UploadError
from chalk_flask.jobs.execution import execute
from chalk_flask.jobs.store import MAX_QUEUED_JOBS
from chalk_flask.roster.tenant_imports import ImportChoices
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants import TenantError, TenantStore
from tests.jobs.conftest import JobService
from tests.support.packages import PackageBuilder

SMALL = PackageBuilder()


def event_names(service: JobService) -> list[str]:
    return sorted(event["event"] for event in read_events(service.store, "default"))


@pytest.mark.every_backend
def test_upload_queues_a_job_with_its_package(service: JobService) -> None:
    choices = ImportChoices(lenient=True, invalid_rows="quarantine")
    job = service.upload(SMALL, choices=choices)
    assert (job.kind, job.state, job.package, job.requested_by) == ("import", "queued", "district.zip", "ada")
    assert service.find(job) == job
    assert service.find(job).choices == choices
    assert service.jobs.upload_path(job).read_bytes() == SMALL.zip_bytes()
    assert service.jobs.list_active("default") == [job]
    assert event_names(service) == ["job.queued"]


def test_jobs_of_other_tenants_are_not_found(service: JobService) -> None:
    TenantStore(service.store).create("north")
    job = service.upload(SMALL)
    assert service.jobs.get("north", job.id) is None
    assert service.jobs.list("north") == []
    with pytest.raises(JobError, match="is unknown"):
        service.jobs.cancel("north", job.id, requested_by="eve")
    with pytest.raises(TenantError):
        service.upload(SMALL, "south")
    assert service.files("south") == []


def test_rejected_upload_leaves_no_job_and_no_file(service: JobService) -> None:
    with pytest.raises(UploadError, match=r"'district\.zip' is .*upload a ZIP file"):
        service.upload(b"sourcedId,status\n")
    assert service.jobs.list("default") == []
    assert service.files() == []


def test_queue_of_a_tenant_has_a_limit(service: JobService) -> None:
    jobs = [service.upload(SMALL) for _ in range(MAX_QUEUED_JOBS)]
    with pytest.raises(JobError, match="20 jobs of this tenant are queued already"):
        service.upload(SMALL)
    assert len(service.files()) == MAX_QUEUED_JOBS
    service.jobs.cancel("default", jobs[0].id, requested_by="ada")
    assert service.upload(SMALL).state == "queued"


def test_canceled_job_is_not_run(service: JobService) -> None:
    job = service.upload(SMALL)
    assert service.jobs.cancel("default", job.id, requested_by="ada").state == "canceled"
    assert service.files() == []
    assert service.run(job).state == "canceled"
    assert service.runs() == []
    with pytest.raises(JobError, match=r"only a queued job can be canceled: .* is canceled"):
        service.jobs.cancel("default", job.id, requested_by="ada")
    assert event_names(service) == ["job.canceled", "job.queued"]


def test_list_returns_the_newest_jobs_first(service: JobService) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(service.upload(SMALL))
        service.clock.advance(1)
    assert service.jobs.list("default") == jobs[::-1]
    assert service.jobs.list("default", limit=1) == jobs[2:]
    assert service.jobs.list_active("default") == jobs


def test_checked_package_is_imported_once_without_another_upload(service: JobService) -> None:
    checked = service.run(service.upload(SMALL, dry_run=True, choices=ImportChoices(strict=True)))
    assert (checked.result, checked.run, checked.can_be_imported) == ("checked", None, True)
    assert service.runs() == []
    job = service.jobs.import_checked("default", checked.id, requested_by="bob")
    assert (job.kind, job.choices, job.package) == ("import", ImportChoices(strict=True), "district.zip")
    with pytest.raises(JobError, match="no longer kept, or was imported already"):
        service.jobs.import_checked("default", checked.id, requested_by="bob")
    assert service.run(job).result == "committed"
    assert service.files() == []
    assert [run.who for run in service.runs()] == ["bob"]


def test_rejected_dry_run_keeps_no_package(service: JobService) -> None:
    invalid = PackageBuilder().set("users", "pupil-1", enabledUser="perhaps")
    job = service.run(service.upload(invalid, dry_run=True))
    assert (job.state, job.result, job.can_be_imported) == ("finished", "refused", False)
    assert service.files() == []
    with pytest.raises(JobError):
        service.jobs.import_checked("default", job.id, requested_by="ada")


@pytest.mark.on_backend("sqlite")
def test_approval_is_queued_once_and_applied(service: JobService) -> None:
    held = service.hold()
    assert held.run
    job = service.jobs.approve("default", held.run, requested_by="bob")
    assert service.jobs.approve("default", held.run, requested_by="eve") == job
    assert (service.run(job).result, service.find(job).run) == ("committed", held.run)
    assert [run.settled_by for run in service.runs()] == [None, "bob"]
    with service.store.read("default") as snapshot:
        assert snapshot.find(Query("users")).body().count(b'"status":"tobedeleted"') == 50
    with pytest.raises(JobError, match="cannot be approved: it is committed"):
        service.jobs.approve("default", held.run, requested_by="bob")


def test_unknown_run_cannot_be_approved(service: JobService) -> None:
    with pytest.raises(JobError, match="there is no held import 'run-1'"):
        service.jobs.approve("default", "run-1", requested_by="ada")


@pytest.mark.on_backend("sqlite")
def test_copy_of_a_store_has_no_active_jobs(service: JobService) -> None:
    done, running, queued = [service.upload(SMALL, dry_run=True) for _ in range(3)]
    execute(service.store, service.settings, service.jobs, service.jobs.start(done))
    service.jobs.start(running)
    with open_store("memory:", COLLECTIONS) as target:
        copy_store(service.store, target)
        assert JobStore.of(target, service.settings).list("default") == [service.find(done)]
    assert service.find(queued).state == "queued"
