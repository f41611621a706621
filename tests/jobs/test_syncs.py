"""Syncs as jobs: the worker queues those that are due, one of a tenant at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.jobs import Job, JobError
from chalk_flask.sources import Source, SourceRequest, SourceStore
from chalk_flask.tenants import TenantStore
from chalk_flask.times import utc_now
from tests.jobs.conftest import JobService
from tests.support.deliveries import wait_until
from tests.support.sources.provider import SECRET, Provider, Reply, run_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with run_provider(10, tokens={SECRET}) as running:
        yield running


def add(service: JobService, provider: Provider, name: str = "sis", tenant: str = "default", **members: Any) -> Source:
    """Add a source that is synced every hour. Jobs run in processes with the clock of the system."""
    service.clock.set(utc_now())
    sources = SourceStore(service.store, SecretCipher(service.settings.data), service.clock)
    values = {"auth": "bearer", "secret": SECRET, "every": timedelta(hours=1), **members}
    return sources.add(tenant, SourceRequest(name=name, url=provider.url, **values))


def find(service: JobService, name: str = "sis") -> Source:
    return SourceStore(service.store, SecretCipher(service.settings.data)).get("default", name)


def sync_jobs(service: JobService, tenant: str = "default") -> list[Job]:
    """Return the jobs of a tenant, oldest first."""
    return list(reversed(service.jobs.list(tenant)))


def run_due(service: JobService) -> None:
    """Run the syncs that are due, as the worker does after SYNC_INTERVAL_SECONDS."""
    service.worker._next_sync_check = 0
    service.worker.run_pending()


@pytest.mark.every_backend
def test_due_sync_runs_as_a_job(service: JobService, provider: Provider) -> None:
    add(service, provider)
    run_due(service)
    [job] = sync_jobs(service)
    assert (job.kind, job.package, job.requested_by, job.result) == ("sync", "sis", "schedule", "committed")
    assert [run.id for run in service.runs()] == [job.run]
    assert (find(service).last_result, find(service).last_run) == ("committed", job.run)
    run_due(service)
    assert len(sync_jobs(service)) == 1
    service.clock.advance(hours=2)
    run_due(service)
    assert [job.result for job in sync_jobs(service)] == ["committed", "unchanged"]


def test_failed_sync_is_repeated_later(service: JobService, provider: Provider) -> None:
    add(service, provider)
    provider.replies = lambda path, query: Reply(404) if path == "classes" else None
    run_due(service)
    [job] = sync_jobs(service)
    assert (job.state, job.run) == ("failed", None)
    assert job.message == find(service).last_error
    assert "classes with the status 404" in str(job.message)
    run_due(service)
    assert len(sync_jobs(service)) == 1
    provider.replies = lambda path, query: None
    service.clock.advance(minutes=20)
    run_due(service)
    assert [job.state for job in sync_jobs(service)] == ["failed", "finished"]
    assert (find(service).failures, find(service).last_error) == (0, None)


def test_two_sources_of_a_tenant_are_synced_one_after_the_other(service: JobService, provider: Provider) -> None:
    TenantStore(service.store).create("north")
    for name, tenant in (("a", "default"), ("b", "default"), ("c", "north")):
        add(service, provider, name, tenant)
    service.worker._enqueue_syncs()
    assert [job.package for job in sync_jobs(service)] == ["a"]
    assert [job.package for job in sync_jobs(service, "north")] == ["c"]
    first = service.jobs.sync("default", "b", requested_by="ada")
    assert first.package == "a"
    run_due(service)
    run_due(service)
    assert sorted(job.package for job in sync_jobs(service)) == ["a", "b"]


def test_sync_of_an_unknown_source_is_not_queued(service: JobService) -> None:
    with pytest.raises(JobError, match="there is no source 'sis'"):
        service.jobs.sync("default", "sis", requested_by="ada")


def test_sync_of_a_source_that_was_removed_fails(service: JobService, provider: Provider) -> None:
    add(service, provider, every=None)
    job = service.jobs.sync("default", "sis", requested_by="ada")
    SourceStore(service.store, SecretCipher(service.settings.data)).remove("default", "sis")
    failed = service.run(job)
    assert failed.state == "failed"
    assert "has no source" in str(failed.message)


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_worker_process_syncs_a_source(service: JobService, provider: Provider) -> None:
    add(service, provider)
    service.worker.start()
    wait_until(lambda: [job.result for job in sync_jobs(service)] == ["committed"], seconds=180)
    assert find(service).last_success
