"""Retention of the change history: by the setting of the service, by that of a tenant, and with a deleted tenant."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from backends import Backend
from chalk_flask.jobs.retention import remove_old_history
from chalk_flask.roster.changes.history_block import ChangeCause, HistoryBlock, StoredChange
from chalk_flask.roster.changes.history_retention import HistoryPeriods, history_cutoff, remove_expired_history
from chalk_flask.roster.tenant_imports import run_import
from chalk_flask.settings import load_settings
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import utc_now
from tests.roster.changes.conftest import changes_in, history_bodies
from tests.support.packages import PackageBuilder


def add_blocks(store: Backend, *ages: int, tenant: str = "default") -> None:
    """Store a block of each of these ages in days, the oldest one with the lowest number."""
    now = utc_now()
    changes = [StoredChange("u-1", None, b"{}", b"{}")]
    with store.write(tenant) as transaction:
        for number, days in enumerate(sorted(ages, reverse=True), 1):
            time = history_cutoff(days, now)
            block = HistoryBlock(number, number, "users", time, ChangeCause(), "changed", changes)
            transaction.put("history", [block.to_record()])


def ages_of(store: Backend, tenant: str = "default") -> list[int]:
    """Return the ages of the stored blocks in days."""
    times = [HistoryBlock.from_body(body).time for body in history_bodies(store, tenant)]
    return sorted(round((utc_now() - datetime.fromisoformat(time)) / timedelta(days=1)) for time in times)


@pytest.mark.every_backend
def test_changes_older_than_the_period_are_deleted(store: Backend) -> None:
    add_blocks(store, *range(5, 500, 2))
    remove_expired_history(store, "default", 30, utc_now())
    assert ages_of(store) == list(range(5, 30, 2))


def test_zero_days_delete_the_whole_history(store: Backend) -> None:
    add_blocks(store, 0, 1, 2)
    remove_expired_history(store, "default", 0, utc_now())
    assert ages_of(store) == []


def test_deletion_ends_early_when_the_worker_stops(store: Backend) -> None:
    add_blocks(store, 400)
    stopping = Event()
    stopping.set()
    remove_expired_history(store, "default", 30, utc_now(), stopping)
    assert ages_of(store) == [400]


def test_worker_deletes_by_the_period_of_each_tenant(store: Backend) -> None:
    tenants = TenantStore(store)
    tenants.create("west")
    tenants.update("west", history_days=10)
    for tenant in ("default", "west"):
        add_blocks(store, 5, 20, 400, tenant=tenant)
    remove_old_history(store, 365, utc_now())
    assert (ages_of(store), ages_of(store, "west")) == ([5, 20], [5])


def test_cached_period_follows_a_change_of_the_tenant(store: Backend) -> None:
    periods = HistoryPeriods(store, 365)
    assert periods.days_of("default") == 365
    TenantStore(store).update("default", history_days=0)
    assert periods.days_of("default") == 0
    TenantStore(store).update("default", history_days="")
    assert periods.days_of("default") == 365


def test_import_follows_the_period_and_deletes_expired_changes(store: Backend, tmp_path: Path) -> None:
    settings = load_settings({"data": str(tmp_path / "data")})
    tenants = TenantStore(store)

    def load(name: str) -> None:
        package = PackageBuilder().set("users", "pupil-1", givenName=name).folder(tmp_path / "package")
        assert run_import(store, settings, package, "default").state == "committed"

    load("Ada")
    load("Eva")
    assert len(changes_in(store, "users", "pupil-1")) == 1
    tenants.update("default", history_days=0)
    load("Ida")
    assert history_bodies(store) == []


def test_deleted_tenant_leaves_no_history(store: Backend) -> None:
    TenantStore(store).create("west")
    add_blocks(store, 1, tenant="west")
    TenantStore(store).delete("west")
    assert history_bodies(store, "west") == []
