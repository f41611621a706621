"""Watch of the workers: what it logs while there is none, and when there is one again."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.logs.events import members_of
from chalk_flask.monitoring.worker_watch import WorkerWatch
from chalk_flask.sources import SourceRequest, SourceStore
from chalk_flask.tenants import TenantStore
from tests.conftest import services_of
from tests.support.deliveries import add_webhook, wait_until

MISSING = "no process sends webhooks and runs jobs of this store"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data"))


def test_missing_worker_is_logged_once_until_there_is_one(
    app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    services = services_of(app)
    watch = WorkerWatch(services)
    watch.check()
    assert caplog.messages == []
    for _ in range(3):
        watch.check()
    assert [message.partition(":")[0] for message in caplog.messages] == [MISSING]
    add_webhook(services.store, tmp_path / "data", "https://tool.example.org/")
    for _ in range(3):
        watch.check()
    assert [dict(members_of(record)) for record in caplog.records] == [{}, {"waiting": "webhooks"}]
    with closing(services.worker), closing(services.job_worker):
        services.worker.start()
        services.job_worker.start()
        wait_until(lambda: services.worker.is_running_anywhere() and services.job_worker.is_running_anywhere())
        watch.check()
    assert caplog.messages[2:] == ["a process sends webhooks and runs jobs of this store"]
    services.store.close()


def test_scheduled_source_waits_for_a_worker(app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    services = services_of(app)
    sources, watch = SourceStore(services.store, SecretCipher(tmp_path / "data")), WorkerWatch(services)
    by_hand = SourceRequest(name="by-hand", url="https://sis.example.org/v1p1", auth="bearer", secret="x")
    sources.add("default", by_hand)
    for _ in range(2):
        watch.check()
    sources.add("default", replace(by_hand, name="nightly", at="02:30"))
    watch.check()
    assert [dict(members_of(record)) for record in caplog.records] == [{}, {"waiting": "syncs"}]
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
