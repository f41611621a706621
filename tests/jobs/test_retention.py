"""Retention: old jobs and files that no job needs are deleted, all others stay."""

from __future__ import annotations

import os
from pathlib import Path

from chalk_flask.jobs.retention import remove_tenant_files, remove_unused
from tests.jobs.conftest import JobService
from tests.support.packages import PackageBuilder

SMALL = PackageBuilder()
DAY_SECONDS = 86400


def clean_up(service: JobService) -> None:
    remove_unused(service.store, service.jobs.folder, service.clock())


def write_old_file(service: JobService, name: str, age_seconds: float) -> Path:
    path = service.jobs.tenant_folder("default") / name
    path.write_bytes(b"")
    time = service.clock.seconds - age_seconds
    os.utime(path, (time, time))
    return path


def test_package_of_a_dry_run_is_kept_for_a_day(service: JobService) -> None:
    checked = service.run(service.upload(SMALL, dry_run=True))
    service.clock.advance(hours=23)
    clean_up(service)
    assert service.files() == [checked.upload]
    service.clock.advance(hours=2)
    clean_up(service)
    assert service.files() == []
    assert not service.find(checked).can_be_imported
    assert service.find(checked).result == "checked"


def test_files_of_active_jobs_stay(service: JobService) -> None:
    job = service.jobs.start(service.upload(SMALL))
    write_old_file(service, f"{job.id}.json", 2 * DAY_SECONDS)
    service.clock.advance(days=2)
    clean_up(service)
    assert service.files() == sorted([f"{job.id}.json", str(job.upload)])


def test_files_without_an_active_job_are_deleted(service: JobService) -> None:
    job = service.run(service.upload(SMALL))
    names = [str(job.upload), f"{job.id}.json", f".upload-{'0' * 32}.part", f"upload-{'1' * 32}.zip"]
    for name in names:
        write_old_file(service, name, 2 * DAY_SECONDS)
    fresh = write_old_file(service, f".upload-{'2' * 32}.part", 60)
    other = write_old_file(service, "notes.txt", 2 * DAY_SECONDS)
    clean_up(service)
    assert service.files() == sorted([fresh.name, other.name])


def test_jobs_older_than_ninety_days_are_deleted(service: JobService) -> None:
    old = service.run(service.upload(SMALL))
    service.clock.advance(days=91)
    recent = service.run(service.upload(SMALL, dry_run=True))
    assert service.jobs.list("default") == [recent]
    service.clock.advance(days=91)
    clean_up(service)
    assert service.jobs.list("default") == []
    assert old.id != recent.id


def test_files_of_a_tenant_are_deleted_with_it(service: JobService) -> None:
    service.upload(SMALL)
    remove_tenant_files(service.jobs.folder, "default")
    assert not service.jobs.tenant_folder("default").exists()
    remove_tenant_files(service.jobs.folder, "default")
