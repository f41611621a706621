"""Webhook events about the outcome of imports: which webhook gets which, and what they contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask.jobs.overdue_imports import enqueue_overdue
from chalk_flask.outbox.event import IMPORT_EVENTS
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.tenant_imports import approve_import, run_import
from chalk_flask.times import format_timestamp
from tests.conftest import services_of
from tests.outbox.conftest import empty_app as empty_app
from tests.outbox.conftest import sent_events, subscribe
from tests.support.packages import PackageBuilder, package_with_users


def load(app: Flask, package: PackageBuilder, folder: Path, **options: Any) -> ImportReport:
    """Import a package with the settings of the tenant."""
    services = services_of(app)
    return run_import(
        services.store, services.settings, package.zip(folder / "p.zip"), "default", requested_by="test", **options
    )


def received(app: Flask) -> list[tuple[str, str | None, Mapping[str, Any]]]:
    """Return type, run and details of the events of the webhook `one`."""
    return [(event["event_type"], event["sync_run_id"], event["data"]["import"]) for event in sent_events(app)]


@pytest.mark.every_backend
def test_each_outcome_is_an_event_of_its_own(empty_app: Flask, tmp_path: Path) -> None:
    subscribe(empty_app, events=set(IMPORT_EVENTS))
    first = load(empty_app, package_with_users(200), tmp_path)
    load(empty_app, package_with_users(200), tmp_path)
    held = load(empty_app, package_with_users(150), tmp_path)
    rejected = load(empty_app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path)
    load(empty_app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path, dry_run=True)
    services = services_of(empty_app)
    approve_import(services.store, services.settings, "default", held.run, requested_by="test")
    assert received(empty_app) == [
        ("import.committed", first.run, {"state": "committed", "quarantined": 0}),
        ("import.held", held.run, {"state": "held", "files": ["users"], "expires": held.expires}),
        ("import.rejected", rejected.run, {"state": "rejected", "problems": 1}),
        ("import.committed", held.run, {"state": "committed", "quarantined": 0}),
    ]


def test_webhook_gets_only_the_events_that_it_names(empty_app: Flask, tmp_path: Path) -> None:
    subscribe(empty_app, "all", mode="batched")
    subscribe(empty_app, "held", events={"import.held"})
    subscribe(empty_app, "off", events={"import.held"}, state="disabled")
    load(empty_app, package_with_users(200), tmp_path)
    load(empty_app, package_with_users(150), tmp_path)
    load(empty_app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path)
    assert [event["event_type"] for event in sent_events(empty_app, "all")] == ["sync.completed"]
    assert [event["event_type"] for event in sent_events(empty_app, "held")] == ["import.held"]
    assert sent_events(empty_app, "off") == []


@pytest.mark.every_backend
def test_overdue_import_is_reported_once_until_the_next_one(empty_app: Flask, tmp_path: Path) -> None:
    store, now = services_of(empty_app).store, datetime.now(UTC)
    subscribe(empty_app, events={"import.overdue"})
    enqueue_overdue(store, 24, now + timedelta(hours=48))
    assert received(empty_app) == [], "a tenant without any import is new"
    load(empty_app, PackageBuilder(), tmp_path)
    enqueue_overdue(store, 24, now + timedelta(hours=23))
    assert received(empty_app) == []
    for hours in (25, 26):
        enqueue_overdue(store, 24, now + timedelta(hours=hours))
    [(event_type, _, details)] = received(empty_app)
    assert (event_type, details["hours"], details["last"][:10]) == ("import.overdue", 24, now.date().isoformat())
    load(empty_app, PackageBuilder(), tmp_path)
    enqueue_overdue(store, 24, now + timedelta(hours=30))
    assert len(received(empty_app)) == 2


def test_approval_ends_that_an_import_is_overdue(empty_app: Flask, tmp_path: Path) -> None:
    services = services_of(empty_app)
    subscribe(empty_app, events={"import.overdue"})
    load(empty_app, package_with_users(200), tmp_path)
    held = load(empty_app, package_with_users(150), tmp_path)
    approve_import(services.store, services.settings, "default", held.run, requested_by="test")
    with services.store.write("default") as transaction:
        run = history.find_run(transaction, held.run)
        assert run
        assert run.settled
        started = format_timestamp(datetime.now(UTC) - timedelta(hours=48))
        history.store_run(transaction, replace(run, started=started), datetime.now(UTC))
    enqueue_overdue(services.store, 24, datetime.now(UTC))
    assert received(empty_app) == []


def test_webhook_limited_to_orgs_gets_no_import_events(empty_app: Flask, tmp_path: Path) -> None:
    subscribe(empty_app, events={"import.held"}, orgs=frozenset({"s-1"}))
    load(empty_app, package_with_users(200), tmp_path)
    load(empty_app, package_with_users(150), tmp_path)
    assert received(empty_app) == []
