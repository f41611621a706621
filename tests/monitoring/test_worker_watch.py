"""Watch of the workers: what it logs while there is none, and when there is one again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.logs.events import members_of
from chalk_flask.monitoring.worker_watch import WorkerWatch
from chalk_flask.tenants import TenantStore
from tests.conftest import services_of
from tests.support.deliveries import add_webhook, wait_until


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data"))


def test_missing_worker_is_logged_once_until_there_is_one(
    app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    services = services_of(app)
    watch = WorkerWatch(services)
    for _ in range(3):
        watch.check()
    assert caplog.messages == [], "without webhooks there is no work"
    add_webhook(services.store, tmp_path / "data", "https://tool.example.org/")
    watch.check()
    assert caplog.messages == []
    for _ in range(3):
        watch.check()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "no process sends webhooks and runs jobs of this store"
    ]
    services.worker.start()
    wait_until(services.worker.is_running_anywhere)
    watch.check()
    assert caplog.messages[1:] == ["a process sends webhooks and runs jobs of this store"]
    services.worker.close()
    services.store.close()


def test_deletion_of_a_tenant_waits_for_a_worker(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    services = services_of(app)
    tenants, watch = TenantStore(services.store), WorkerWatch(services)
    tenants.create("north")
    tenants.begin_deletion("north")
    for _ in range(2):
        watch.check()
    assert [dict(members_of(record)) for record in caplog.records] == [{"waiting": "deletions"}]
    services.store.close()


def test_started_watch_ends_when_it_is_closed(app: Flask) -> None:
    watch = WorkerWatch(services_of(app), interval=0.01)
    watch.start()
    watch.close()
    services_of(app).store.close()
