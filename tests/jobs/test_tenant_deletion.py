"""Deletion of a tenant: its jobs and their files go too."""

from __future__ import annotations

import pytest

from chalk_flask.jobs.tenant_deletion import delete_tenant
from chalk_flask.tenants import TenantError, TenantStore
from tests.jobs.conftest import JobService
from tests.support.packages import PackageBuilder


def test_jobs_and_files_of_a_deleted_tenant_are_gone(service: JobService) -> None:
    TenantStore(service.store).create("north")
    kept, job = service.upload(PackageBuilder()), service.upload(PackageBuilder(), "north")
    delete_tenant(service.store, service.settings, "north")
    assert service.jobs.get("north", job.id) is None
    assert service.files("north") == []
    assert service.files() == [kept.upload]
    assert service.run(kept).result == "committed"
    with pytest.raises(TenantError):
        delete_tenant(service.store, service.settings, "north")
