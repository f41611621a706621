"""Numbers of a roster: active records only, counted again after an import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask.console.pages.dashboard.roster_counts import COUNTED
from chalk_flask.roster.counts import RosterCounter
from chalk_flask.shared_state import SharedState
from tests.api.writes.conftest import Tool
from tests.conftest import services_of
from tests.support.deliveries import wait_until
from tests.support.roster_writes import write_rows
from tests.support.small_roster import ROSTER, fill, user

MAX_WAIT_SECONDS = 30.0


@pytest.fixture
def shared_state(tmp_path: Path) -> Iterator[SharedState]:
    """State in a file, as the processes of a service share it."""
    state = SharedState()
    state.start(tmp_path / "shared-state.db")
    yield state
    state.close()


@pytest.mark.every_backend
def test_active_records_are_counted(app: Flask) -> None:
    store = services_of(app).store
    counter = RosterCounter(store, COUNTED, MAX_WAIT_SECONDS)
    assert counter.count("default").is_empty
    fill(store)
    counts = counter.count("default")
    assert (counts.is_empty, counts.is_current) == (False, True)
    assert counts.by_label == {
        "Students": 3,
        "Teachers": 2,
        "Guardians": 1,
        "Schools": 3,
        "Classes": 4,
        "Enrollments": 9,
    }


def test_counts_follow_imports_and_outlive_grades(app: Flask) -> None:
    write_rows(app, ROSTER)
    counter = RosterCounter(services_of(app).store, COUNTED, MAX_WAIT_SECONDS)
    first = counter.count("default")
    grade = {
        "sourcedId": "x-9",
        "lineItem": {"sourcedId": "l-1"},
        "student": {"sourcedId": "u-2"},
        "scoreStatus": "not submitted",
        "scoreDate": "2023-10-10",
    }
    response = Tool(app).send("/results/x-9", {"result": grade})
    assert response.status_code in (200, 201), response.text
    assert counter.count("default").by_label is first.by_label, "grade tools do not change these numbers"
    write_rows(app, {"users": [user("u-20", "teacher", "Jo", "Xu", ["s-1"])]})
    assert counter.count("default").by_label["Teachers"] == first.by_label["Teachers"] + 1


def test_counts_are_shared_until_an_import(app: Flask, shared_state: SharedState) -> None:
    write_rows(app, ROSTER)
    store = services_of(app).store
    first = RosterCounter(store, COUNTED, MAX_WAIT_SECONDS, shared_state=shared_state).count("default")
    shared = RosterCounter(store, COUNTED, wait_seconds=0.0, shared_state=shared_state).count("default")
    assert (shared.is_current, shared.by_label) == (True, first.by_label)
    write_rows(app, {"users": [user("u-20", "teacher", "Jo", "Xu", ["s-1"])]})
    later = RosterCounter(store, COUNTED, MAX_WAIT_SECONDS, shared_state=shared_state).count("default")
    assert later.by_label["Teachers"] == first.by_label["Teachers"] + 1


def test_shared_counts_of_other_collections_are_not_used(app: Flask, shared_state: SharedState) -> None:
    write_rows(app, ROSTER)
    store = services_of(app).store
    RosterCounter(store, COUNTED[:2], MAX_WAIT_SECONDS, shared_state=shared_state).count("default")
    counts = RosterCounter(store, COUNTED, MAX_WAIT_SECONDS, shared_state=shared_state).count("default")
    assert len(counts.by_label) == len(COUNTED)


def test_former_counts_are_shown_until_new_ones_are_ready(app: Flask) -> None:
    """A counter that never waits finds no numbers at first."""
    write_rows(app, ROSTER)
    counter = RosterCounter(services_of(app).store, COUNTED, wait_seconds=0.0)
    wait_until(lambda: counter.count("default").is_current)
    first = counter.count("default").by_label
    write_rows(app, {"users": [user("u-20", "teacher", "Jo", "Xu", ["s-1"])]})
    counts = counter.count("default")
    assert counts.is_current or counts.by_label == first
    wait_until(lambda: counter.count("default").is_current)
    assert counter.count("default").by_label["Teachers"] == first["Teachers"] + 1
