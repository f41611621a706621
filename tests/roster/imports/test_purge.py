"""Purge of tombstones that are old and unreferenced."""

from __future__ import annotations

import time

import pytest

from backends import Backend, Compare
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import with_timestamp, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import clock
from chalk_flask.roster.imports import ImportOptions
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.times import format_epoch_seconds
from tests.roster.conftest import Load, bodies, objects
from tests.support.packages import PackageBuilder

DAY = 86_400
MARGIN_SECONDS = 120.0
"""Difference between the age of a tombstone and `tombstone_days`; longer than a test takes."""


def age(store: Backend, days: float) -> None:
    """Set the timestamp of all tombstones to this many days ago."""
    timestamp = format_epoch_seconds(time.time() - days * DAY)
    with store.write("default") as transaction:
        for name, resource_type in FILES.items():
            keys = list(transaction.keys(name, Compare("status", "=", fold("tobedeleted"))))
            for body in transaction.get_many(name, keys).values():
                data = resource_type.normalize(with_timestamp(without_timestamp(body), timestamp))
                transaction.put(name, [resource_type.record(data)])


def without_pupil() -> PackageBuilder:
    """Return the small package without a pupil and everything that refers to it."""
    package = PackageBuilder().drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds="")
    return package.drop("enrollments", "enr-1").drop("demographics", "pupil-1").drop("results", "result-1")


@pytest.mark.reading("I-11")
def test_young_tombstone_stays(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, without_pupil())
    age(store, 89)
    before = bodies(store)
    assert load(store, without_pupil(), "unchanged").purged == 0
    assert bodies(store) == before


@pytest.mark.every_backend
@pytest.mark.reading("I-11")
def test_old_tombstone_is_purged_once_unreferenced(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, without_pupil())
    age(store, 91)
    first = load(store, without_pupil())
    assert first.purged == 3
    assert sum(first.total()[outcome] for outcome in ("created", "updated", "deleted", "revived")) == 0
    assert "3 old tombstones deleted for good." in first.to_text()
    assert not {"pupil-1"} & objects(store, "demographics").keys()
    assert objects(store, "users")["pupil-1"]["status"] == "tobedeleted"
    assert load(store, without_pupil()).purged == 1
    assert "pupil-1" not in objects(store, "users")
    load(store, without_pupil(), "unchanged")
    assert check_store(store).problems == []


@pytest.mark.reading("I-11", "I-26")
def test_referenced_tombstone_stays_at_any_age(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().only("users").drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds="")
    load(store, package)
    age(store, 4000)
    assert load(store, package).purged == 3  # those of its enrollment, result and demographics
    assert objects(store, "users")["pupil-1"]["status"] == "tobedeleted"
    assert load(store, package).purged == 1
    assert check_store(store).problems == []


def test_old_tombstone_in_package_is_revived(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("results", "result-1"))
    age(store, 100)
    report = load(store, PackageBuilder())
    assert (report.purged, report.total()["revived"]) == (0, 1)
    assert objects(store, "results")["result-1"]["status"] == "active"


@pytest.mark.reading("I-07", "I-11")
def test_old_tombstone_referenced_by_deleted_row_stays(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2"))
    age(store, 100)
    package = (
        PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-3", status="tobedeleted")
    )
    assert load(store, package).purged == 0
    assert "org-3" in objects(store, "orgs")
    assert check_store(store).problems == []


@pytest.mark.parametrize(("days", "purged"), [(90, 1), (200, 0)])
def test_tombstone_days_decides_when_to_purge(store: Backend, load: Load, days: int, purged: int) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().drop("results", "result-1")
    load(store, package)
    age(store, 100)
    state = "committed" if purged else "unchanged"
    assert load(store, package, state, ImportOptions(tombstone_days=days)).purged == purged


@pytest.mark.reading("I-11")
@pytest.mark.parametrize("days", [90, 200])
@pytest.mark.parametrize(("difference_seconds", "purged"), [(-MARGIN_SECONDS, 0), (MARGIN_SECONDS, 1)])
def test_tombstone_is_purged_just_after_its_days(
    store: Backend, load: Load, days: int, difference_seconds: float, purged: int
) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().drop("results", "result-1")
    load(store, package)
    age(store, days + difference_seconds / DAY)
    state = "committed" if purged else "unchanged"
    assert load(store, package, state, ImportOptions(tombstone_days=days)).purged == purged


def test_purge_shows_in_dry_run_and_has_a_timestamp(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().drop("results", "result-1")
    load(store, package)
    age(store, 100)
    assert load(store, package, "checked", dry_run=True).purged == 1
    report = load(store, package)
    assert report.timestamp is not None
    assert abs(clock.to_epoch_seconds(report.timestamp) - time.time()) < 60
