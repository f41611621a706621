"""Delta files: what they create, change, delete and revive, and what follows from that for records they do not name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import Load, bodies, moved, objects
from tests.support.packages import ROWS, Made, Row

WHEN = "2026-09-01T10:00:00.000Z"


def delta(**rows: list[Row]) -> Made:
    """A package of delta files that holds these rows; a row without a status is active."""
    made = Made().only(*rows)
    for name, these in rows.items():
        made.properties[f"file.{name}"] = "delta"
        made.rows[name] = [{"status": "active", "dateLastModified": WHEN} | row for row in these]
    return made


def row(name: str, key: str, **cells: str) -> Row:
    return next(dict(row) for row in ROWS[name] if row["sourcedId"] == key) | cells


def named(key: str) -> Row:
    return row("users", "parent-1") | {"sourcedId": key}


def school(key: str, parent: str) -> Row:
    return {"sourcedId": key, "name": "East", "type": "school", "parentSourcedId": parent}


def gone(key: str, status: str = "tobedeleted") -> Row:
    return {"sourcedId": key, "status": status}


def refused(store: Backend, tmp_path: Path, made: Made) -> list[dict[str, Any]]:
    before = bodies(store)
    report = import_package(store, "default", made.folder(tmp_path / "refused"), ImportOptions())
    assert report.state == "refused"
    assert bodies(store) == before
    errors: list[dict[str, Any]] = report.to_dict()["errors"]
    return errors


def test_only_what_a_delta_names_moves(store: Backend, load: Load) -> None:  # I-12
    load(store, Made())
    before = bodies(store)
    report = load(
        store,
        delta(
            users=[
                row("users", "pupil-1", givenName="Ada"),
                row("users", "pupil-2"),
                named("new"),
            ],
            enrollments=[gone("enr-1"), gone("never-was")],
        ),
    )
    assert moved(before, bodies(store)) == {"pupil-1", "new", "enr-1"}
    assert objects(store, "users")["pupil-1"]["givenName"] == "Ada"
    assert objects(store, "enrollments")["enr-1"]["status"] == "tobedeleted"
    assert objects(store, "enrollments")["enr-1"]["role"] == "student"
    assert report.total() == {"created": 1, "updated": 1, "deleted": 1, "revived": 0, "unchanged": 2}
    assert check_store(store, "default").ok


def test_a_deleted_record_comes_back_and_a_second_time_nothing_happens(store: Backend, load: Load) -> None:
    load(store, Made())
    load(store, delta(results=[gone("result-1", "inactive")]))
    load(store, delta(results=[gone("result-1")]), "unchanged")
    report = load(store, delta(results=[row("results", "result-1")]))
    assert report.total()["revived"] == 1
    load(store, delta(results=[row("results", "result-1")]), "unchanged")


def test_a_delta_into_an_empty_store_creates_and_ignores_deletions(store: Backend, load: Load) -> None:
    report = load(store, delta(orgs=[*({**each} for each in ROWS["orgs"]), gone("nobody")]))
    assert report.total() == {"created": 3, "updated": 0, "deleted": 0, "revived": 0, "unchanged": 0}
    assert [each["sourcedId"] for each in objects(store, "orgs")["org-1"]["children"]] == ["org-2", "org-3"]


def test_children_follow_although_their_parents_are_not_named(store: Backend, load: Load) -> None:
    load(store, Made())
    load(
        store,
        delta(orgs=[gone("org-3"), school("org-4", "org-2")]),
    )
    orgs = objects(store, "orgs")
    assert [each["sourcedId"] for each in orgs["org-1"]["children"]] == ["org-2"]
    assert [each["sourcedId"] for each in orgs["org-2"]["children"]] == ["org-4"]
    load(store, delta(orgs=[school("org-4", "org-1")]))
    orgs = objects(store, "orgs")
    assert [each["sourcedId"] for each in orgs["org-1"]["children"]] == ["org-2", "org-4"]
    assert "children" not in orgs["org-2"]


def test_links_follow_although_their_classes_are_not_named(store: Backend, load: Load) -> None:
    load(store, Made())
    load(store, delta(classResources=[gone("kr-2")]))
    assert [each["sourcedId"] for each in objects(store, "classes")["class-1"]["resources"]] == ["res-2"]
    more = {"sourcedId": "kr-3", "classSourcedId": "class-2", "resourceSourcedId": "res-1"}
    load(store, delta(classResources=[more], classes=[row("classes", "class-1", title="Renamed")]))
    classes = objects(store, "classes")
    assert [each["sourcedId"] for each in classes["class-1"]["resources"]] == ["res-2"]
    assert [each["sourcedId"] for each in classes["class-2"]["resources"]] == ["res-1"]
    assert check_store(store, "default").ok


def test_bulk_and_delta_files_mix_in_one_package_with_a_warning(store: Backend, load: Load) -> None:
    load(store, Made())
    made = delta(users=[row("users", "pupil-2", givenName="Ada")])
    made.properties["file.results"], made.rows["results"] = "bulk", []
    report = load(store, made)
    assert report.total()["deleted"] == 1
    assert objects(store, "results")["result-1"]["status"] == "tobedeleted"
    assert [warning["code"] for warning in report.to_dict()["warnings"]] == ["mixed_modes"]


@pytest.mark.parametrize(
    ("cells", "code", "column"),
    [
        ({"status": ""}, "missing_value", "status"),
        ({"dateLastModified": ""}, "missing_value", "dateLastModified"),
        ({"status": "gone"}, "bad_value", "status"),
        ({"dateLastModified": "yesterday"}, "bad_value", "dateLastModified"),
        ({"status": "tobedeleted", "dateLastModified": ""}, "missing_value", "dateLastModified"),
        ({"status": "tobedeleted", "dateLastModified": "soon"}, "bad_value", "dateLastModified"),
        ({"status": "tobedeleted", "sourcedId": ""}, "missing_value", "sourcedId"),
        ({"givenName": ""}, "missing_value", "givenName"),
        ({"orgSourcedIds": "nowhere"}, "dangling_reference", "orgSourcedIds"),
    ],
)
def test_a_row_that_lacks_what_a_delta_needs_is_refused(
    store: Backend, load: Load, tmp_path: Path, cells: Row, code: str, column: str
) -> None:
    load(store, Made())
    [error] = refused(store, tmp_path, delta(users=[row("users", "pupil-1", **cells)]))
    assert (error["code"], error["column"], error["file"], error["row"]) == (code, column, "users.csv", 2)


def test_nothing_refers_to_what_the_same_package_deletes(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, Made())
    made = delta(classes=[gone("class-1")], enrollments=[row("enrollments", "enr-1")])
    [error] = refused(store, tmp_path, made)
    assert (error["code"], error["value"]) == ("dangling_reference", "class-1")
    backwards = delta(users=[row("users", "pupil-1", agentSourcedIds="parent-1"), gone("parent-1")])
    [error] = refused(store, tmp_path, backwards)
    assert (error["code"], error["value"], error["row"]) == ("dangling_reference", "parent-1", 2)
    forwards = delta(users=[row("users", "pupil-1", agentSourcedIds="later"), named("later")])
    load(store, forwards)


def test_a_cycle_with_stored_records_is_refused(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, Made())
    [error] = refused(store, tmp_path, delta(orgs=[row("orgs", "org-1", parentSourcedId="org-2")]))
    assert (error["code"], error["value"]) == ("cycle", "org-2")


def test_an_id_that_stands_twice_is_refused(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, Made())
    [error] = refused(store, tmp_path, delta(users=[row("users", "pupil-1"), gone("pupil-1")]))
    assert error["code"] == "repeated_id"


def everything(made: Made) -> dict[str, dict[str, Row]]:
    return {name: {each["sourcedId"]: each for each in rows} for name, rows in made.rows.items()}


@pytest.mark.parametrize("seed", range(12))
def test_a_delta_from_one_roster_to_another_gives_the_other(
    storage: str, load: Load, tmp_path: Path, seed: int
) -> None:
    """The difference of two packages, applied to a store that holds the first, gives what importing the second does."""
    draw = random.Random(seed)
    one, two = Made(), Made()
    for made in (one, two):
        for name in ("results", "lineItems", "enrollments", "classResources", "courseResources"):
            made.rows[name] = [each for each in made.rows[name] if name == "lineItems" or draw.random() < 0.6]
        for each in (*made.rows["users"], *made.rows["orgs"]):
            each["metadata.x"] = draw.choice(["", "1", "2"])
        made.extra = {"users": ["metadata.x"], "orgs": ["metadata.x"]}
        made.rows["orgs"] += [
            school(f"more-{n}", draw.choice(["org-1", "org-2", ""])) for n in range(4) if draw.random() < 0.6
        ]
    old, new = everything(one), everything(two)
    changes: dict[str, list[Row]] = {}
    for name in FILES:
        changed = [each for key, each in new[name].items() if old[name].get(key) != each]
        changes[name] = changed + [gone(key) for key in old[name].keys() - new[name].keys()]
        draw.shuffle(changes[name])
    step = delta(**changes)
    step.extra = two.extra
    with open_store(storage, COLLECTIONS) as here, open_store("memory:", COLLECTIONS) as there:
        load(here, one)
        if any(changes.values()):
            load(here, step)
        load(there, one)
        import_package(there, "default", two.folder(tmp_path / "whole"), ImportOptions())
        assert comparable(here) == comparable(there)
        assert check_store(here, "default").ok


def comparable(store: Backend) -> dict[str, dict[str, bytes]]:
    return {name: {key: without_timestamp(body) for key, body in each.items()} for name, each in bodies(store).items()}
