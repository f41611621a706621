"""Fixtures of jobs: a store with its job store and worker, which a test runs when it wants."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.background.leader_lock import leader_lock_for
from chalk_flask.jobs import Job, JobStore, JobWorker
from chalk_flask.roster.imports.history import ImportRun, list_runs
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.settings import Settings, load_settings
from chalk_flask.storage import COLLECTIONS
from tests.support.clock import FakeClock
from tests.support.packages import PackageBuilder, package_with_users


@dataclass(frozen=True)
class JobService:
    """Store, jobs and worker, as a service has them."""

    settings: Settings
    store: Backend
    jobs: JobStore
    worker: JobWorker
    clock: FakeClock

    def upload(self, package: PackageBuilder | bytes, tenant: str = "default", **options: Any) -> Job:
        """Queue the import of a package."""
        content = package if isinstance(package, bytes) else package.zip_bytes()
        return self.jobs.upload_import(
            tenant, io.BytesIO(content), "district.zip", **{"requested_by": "ada", **options}
        )

    def run(self, job: Job) -> Job:
        """Run the queued jobs and return this one."""
        self.worker.run_pending()
        return self.find(job)

    def find(self, job: Job) -> Job:
        """Return the stored job."""
        found = self.jobs.get(job.tenant, job.id)
        assert found
        return found

    def runs(self, tenant: str = "default") -> list[ImportRun]:
        """Return the import runs of a tenant, oldest first."""
        with self.store.read(tenant) as snapshot:
            return list_runs(snapshot, store_folder(self.settings), tenant)

    def files(self, tenant: str = "default") -> list[str]:
        """Return the names of the files of the jobs of a tenant."""
        folder = self.jobs.tenant_folder(tenant)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def hold(self) -> Job:
        """Import 200 users, and hold a package that deletes 50 of them; return the job of the latter."""
        assert self.run(self.upload(package_with_users(200))).result == "committed"
        held = self.run(self.upload(package_with_users(150)))
        assert held.result == "held"
        return held


@pytest.fixture
def service(storage: str, tmp_path: Path) -> Iterator[JobService]:
    settings = load_settings({"storage": storage, "data": str(tmp_path / "data")})
    clock = FakeClock()
    with open_store(settings.storage, COLLECTIONS) as store:
        jobs = JobStore.of(store, settings, clock)
        lock = leader_lock_for("jobs", settings.storage, tmp_path / "data", shared=store.shared)
        worker = JobWorker(store, jobs, settings, lock, clock)
        yield JobService(settings, store, jobs, worker, clock)
        worker.close()
