"""Deleted records stay for consumers to see, and go for good when they are old and nobody names them."""

from __future__ import annotations

import time

import pytest

from backends import Backend, Compare
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import with_timestamp, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.roster.changes import clock
from chalk_flask.roster.imports.importer import ImportOptions
from chalk_flask.roster.verify.checker import check_store
from tests.roster.conftest import Load, bodies, objects
from tests.support.packages import Made

DAY = 86_400


def age(store: Backend, days: float) -> None:
    """Make all tombstones as old as if they had been deleted so many days ago."""
    stamp = format_instant(time.time() - days * DAY)
    with store.write("default") as transaction:
        for name, resource in FILES.items():
            gone = list(transaction.keys(name, Compare("status", "=", fold("tobedeleted"))))
            for body in transaction.get_many(name, gone).values():
                data = resource.normalize(with_timestamp(without_timestamp(body), stamp))
                transaction.put(name, [resource.record(data)])


def without_pupil() -> Made:
    """The small package after a pupil left who had an enrollment, demographics, a result and a parent."""
    made = Made().drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds="")
    return made.drop("enrollments", "enr-1").drop("demographics", "pupil-1").drop("results", "result-1")


def test_young_tombstones_stay(store: Backend, load: Load) -> None:  # I-11
    load(store, Made())
    load(store, without_pupil())
    age(store, 89)
    before = bodies(store)
    assert load(store, without_pupil(), "unchanged").purged == 0
    assert bodies(store) == before


def test_old_tombstones_go_once_nobody_names_them(store: Backend, load: Load) -> None:  # I-11
    load(store, Made())
    load(store, without_pupil())
    age(store, 91)
    first = load(store, without_pupil())
    assert first.purged == 3
    assert sum(first.total()[outcome] for outcome in ("created", "updated", "deleted", "revived")) == 0
    assert "3 old tombstones removed for good." in first.to_text()
    assert not {"pupil-1"} & objects(store, "demographics").keys()
    assert objects(store, "users")["pupil-1"]["status"] == "tobedeleted"
    assert load(store, without_pupil()).purged == 1
    assert "pupil-1" not in objects(store, "users")
    load(store, without_pupil(), "unchanged")
    assert check_store(store).problems == []


def test_a_tombstone_that_a_record_names_stays_however_old(store: Backend, load: Load) -> None:  # I-11, I-26
    load(store, Made())
    made = Made().only("users").drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds="")
    load(store, made)
    age(store, 4000)
    load(store, made, "unchanged")
    assert check_store(store).problems == []


def test_an_old_tombstone_that_returns_is_revived_and_not_purged(store: Backend, load: Load) -> None:
    load(store, Made())
    load(store, Made().drop("results", "result-1"))
    age(store, 100)
    report = load(store, Made())
    assert (report.purged, report.total()["revived"]) == (0, 1)
    assert objects(store, "results")["result-1"]["status"] == "active"


def test_an_old_tombstone_that_a_deleted_row_names_again_stays(store: Backend, load: Load) -> None:  # I-07, I-11
    load(store, Made())
    load(store, Made().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2"))
    age(store, 100)
    made = Made().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-3", status="tobedeleted")
    assert load(store, made).purged == 0
    assert "org-3" in objects(store, "orgs")
    assert check_store(store).problems == []


@pytest.mark.parametrize(("days", "purged"), [(90, 1), (200, 0)])
def test_the_operator_may_keep_tombstones_for_longer(store: Backend, load: Load, days: int, purged: int) -> None:
    load(store, Made())
    made = Made().drop("results", "result-1")
    load(store, made)
    age(store, 100)
    state = "committed" if purged else "unchanged"
    assert load(store, made, state, ImportOptions(tombstone_days=days)).purged == purged


def test_purging_is_seen_in_a_dry_run_and_has_a_stamp(store: Backend, load: Load) -> None:
    load(store, Made())
    made = Made().drop("results", "result-1")
    load(store, made)
    age(store, 100)
    assert load(store, made, "checked", dry_run=True).purged == 1
    report = load(store, made)
    assert report.timestamp is not None
    assert abs(clock.seconds(report.timestamp) - time.time()) < 60
