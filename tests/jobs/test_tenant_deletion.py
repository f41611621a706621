"""Deletion of a tenant: its jobs and their files go too."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from chalk_flask.jobs.tenant_deletion import TenantDeletions, delete_tenant, finish_deletion
from chalk_flask.tenants import TenantError, TenantStore
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT
from tests.jobs.conftest import JobService
from tests.support.deliveries import wait_until
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


KILLED = """
import os, sys
from backends import backend_class
from chalk_flask.jobs.tenant_deletion import delete_tenant
from chalk_flask.settings import load_settings
from chalk_flask.storage import COLLECTIONS

class EndsBeforeTheRecords(backend_class(sys.argv[1])):
    def write(self, tenant, wait=60.0):
        if tenant == "north":
            os._exit(9)
        return super().write(tenant, wait)

settings = load_settings({"storage": sys.argv[1], "data": sys.argv[2]})
delete_tenant(EndsBeforeTheRecords.open(settings.storage, COLLECTIONS), settings, "north")
"""


@pytest.mark.slow
@pytest.mark.on_backend("sqlite", "json")
def test_deletion_that_was_killed_is_finished_by_the_worker(service: JobService) -> None:
    tenants = TenantStore(service.store)
    tenants.create("north")
    service.upload(PackageBuilder(), "north")
    arguments = [service.settings.storage, service.settings.data]
    environ = CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environ, timeout=60, check=False)
    assert killed.returncode == 9
    assert list(tenants.unfinished_deletions()) == ["north"]
    with pytest.raises(TenantError, match="not deleted completely yet"):
        tenants.create("north")
    service.worker.start()
    wait_until(lambda: not tenants.unfinished_deletions())
    with service.store.read("north") as snapshot:
        assert not any(map(snapshot.exists, service.store.collections))
    assert service.files("north") == []
    tenants.create("north")


def test_deletion_that_is_stopped_keeps_its_mark(service: JobService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.tenants.store._BATCH_SIZE", 1)
    tenants, stopping = TenantStore(service.store), threading.Event()
    tenants.create("north")
    service.upload(PackageBuilder(), "north")
    tenants.begin_deletion("north")
    stopping.set()
    deletions = TenantDeletions(service.store, service.settings)
    deletions.finish(stopping)
    assert list(tenants.unfinished_deletions()) == ["north"]
    deletions.finish(threading.Event())
    assert not tenants.unfinished_deletions()


def test_files_of_a_tenant_that_was_created_again_are_kept(service: JobService) -> None:
    tenants = TenantStore(service.store)
    tenants.create("north")
    delete_tenant(service.store, service.settings, "north")
    tenants.create("north")
    job = service.upload(PackageBuilder(), "north")
    assert not finish_deletion(service.store, service.settings, "north", threading.Event()), "another process did it"
    assert service.files("north") == [job.upload]


def test_files_that_cannot_be_deleted_leave_a_deletion_unfinished(
    service: JobService, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = TenantStore(service.store)
    for name in ("north", "south"):
        tenants.create(name)
        tenants.begin_deletion(name)
    folder = service.jobs.tenant_folder("north")
    (folder / f"upload-{'0' * 32}.zip").mkdir(parents=True)  # a folder cannot be unlinked, even by root
    deletions = TenantDeletions(service.store, service.settings)
    for retries in range(3):
        deletions.finish(threading.Event())
        assert list(tenants.unfinished_deletions()) == ["north"]
        tenants.create(f"east-{retries}")  # another change of the control tenant
    assert caplog.text.count("the files of the deleted tenant north cannot be deleted") == 1
    deletions.retry()
    deletions.finish(threading.Event())
    assert caplog.text.count("the files of the deleted tenant north cannot be deleted") == 2
