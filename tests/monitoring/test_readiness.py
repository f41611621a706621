"""Readiness: the storage, the workers and the age of the rosters; 503 names what failed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.monitoring.readiness import LOCK_MESSAGE, STORAGE_MESSAGE, WORKER_MESSAGES
from chalk_flask.monitoring.roster_age import RosterAges
from chalk_flask.roster.tenant_imports import run_import
from chalk_flask.services import Services
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import utc_now
from tests.conftest import services_of
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder

Serve = Callable[..., Flask]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Factory of applications on a SQLite store; each call opens the same store."""
    apps: list[Flask] = []

    def create(**settings: object) -> Flask:
        app = create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data"), **settings)
        apps.append(app)
        return app

    yield create
    for app in apps:
        services = services_of(app)
        services.worker.close()
        services.job_worker.close()
        services.access_log.close()
        services.store.close()


def start_workers(services: Services) -> None:
    services.worker.start()
    services.job_worker.start()
    wait_until(lambda: services.worker.is_running_anywhere() and services.job_worker.is_running_anywhere())


def import_small_roster(services: Services, folder: Path, tenant: str = "default") -> None:
    package = PackageBuilder().zip(folder / "package.zip")
    report = run_import(services.store, services.settings, package, tenant, requested_by="test")
    assert report.state in ("committed", "unchanged")


def readiness(app: Flask) -> tuple[int, dict[str, Any]]:
    """Return status and checks of /readyz."""
    response = app.test_client().get("/readyz")
    assert response.json is not None
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["status"] == ("ready" if response.status_code == 200 else "unavailable")
    return response.status_code, response.json["checks"]


@pytest.mark.slow
def test_service_with_workers_is_ready(serve: Serve, tmp_path: Path) -> None:
    app = serve()
    start_workers(services_of(app))
    status, checks = readiness(app)
    assert status == 200
    assert checks["roster"] == {"status": "ok", "rosters": 0, "oldest_hours": None}
    assert {check["status"] for check in checks.values()} == {"ok"}


@pytest.mark.slow
def test_worker_of_another_process_counts(serve: Serve) -> None:
    app, other = serve(), serve()
    assert readiness(app)[0] == 503
    start_workers(services_of(other))
    wait_until(lambda: readiness(app)[0] == 200)


def test_missing_workers_are_named(serve: Serve) -> None:
    status, checks = readiness(serve())
    assert status == 503
    for name, message in WORKER_MESSAGES.items():
        assert checks[name] == {"status": "failed", "message": message}
    assert checks["storage"] == {"status": "ok"}


def test_unusable_lock_is_named(serve: Serve, tmp_path: Path) -> None:
    app = serve()
    lock_path = services_of(app).worker._leader_lock.path
    assert lock_path is not None
    lock_path.parent.mkdir(exist_ok=True)
    lock_path.symlink_to(lock_path)
    assert readiness(app)[1]["webhooks"] == {"status": "failed", "message": LOCK_MESSAGE}


def test_missing_store_is_named_without_its_path(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = serve()
    for path in tmp_path.glob("chalk.db*"):
        path.unlink()
    status, checks = readiness(app)
    assert status == 503
    assert checks["storage"] == {"status": "failed", "message": STORAGE_MESSAGE}
    assert checks["roster"] == {"status": "unknown"}
    assert str(tmp_path) not in str(checks)
    assert "the service is not ready: " in caplog.text


@pytest.mark.slow
def test_old_roster_fails_only_with_a_maximum(serve: Serve, tmp_path: Path) -> None:
    app, limited = serve(), serve(ready_max_roster_hours=26)
    services = services_of(app)
    start_workers(services)
    TenantStore(services.store).create("north")  # without a roster, it has no age
    import_small_roster(services, tmp_path)
    assert readiness(limited)[1]["roster"] == {"status": "ok", "rosters": 1, "oldest_hours": 0.0, "max_hours": 26}
    assert readiness(app)[1]["roster"] == {"status": "ok", "rosters": 1, "oldest_hours": 0.0}


def test_age_counts_from_the_last_import(serve: Serve, tmp_path: Path) -> None:
    services = services_of(serve())
    TenantStore(services.store).create("north")
    TenantStore(services.store).create("south")
    for tenant in ("default", "north", "north"):
        import_small_roster(services, tmp_path, tenant)
    later = utc_now() + timedelta(hours=30)
    ages = RosterAges(services.store, now=lambda: later).read()
    assert {name: age.has_users for name, age in ages.items()} == {"default": True, "north": True, "south": False}
    assert 29.9 < (ages["north"].hours_at(later) or 0) < 30.1
    assert ages["south"].hours_at(later) is None


def test_late_rosters_are_counted_without_their_tenants(serve: Serve, tmp_path: Path) -> None:
    app = serve(ready_max_roster_hours=1)
    services = services_of(app)
    TenantStore(services.store).create("north")
    for tenant in ("default", "north"):
        import_small_roster(services, tmp_path, tenant)
    with services.store.write("north") as transaction:  # as if the run were older than the history
        transaction.delete("imports", list(transaction.keys("imports")))
    check = readiness(app)[1]["roster"]
    assert check["status"] == "failed"
    assert check["message"] == "The roster of 1 of 2 tenants has had no import for more than 1 hours."
    assert "north" not in str(check)


def test_health_does_not_read_the_store(serve: Serve, tmp_path: Path) -> None:
    app = serve()
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    (tmp_path / "chalk.db").unlink()
    response = app.test_client().get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert app.test_client().head("/healthz").status_code == 200
    assert app.test_client().post("/healthz").status_code == 405


def test_rate_limit_does_not_apply_to_health(serve: Serve) -> None:
    app = serve(rate_limit_address="1/hour")
    client = app.test_client()
    assert [client.get("/healthz").status_code for _ in range(3)] == [200, 200, 200]
    assert [client.get("/ims/oneroster/v1p1/users").status_code for _ in range(2)] == [401, 429]
