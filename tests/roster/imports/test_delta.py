"""Imports of delta files, and their effects on records that the files do not list."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import UNLIMITED, Load, bodies, changed_ids, objects, rejection_errors
from tests.support.packages import ROWS, PackageBuilder, Row, deleted_row, delta_package, small_row


def new_user(key: str) -> Row:
    return small_row("users", "parent-1") | {"sourcedId": key}


def school(key: str, parent: str) -> Row:
    return {"sourcedId": key, "name": "East", "type": "school", "parentSourcedId": parent}


@pytest.mark.every_backend
@pytest.mark.reading("I-12")
def test_delta_changes_only_its_rows(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    report = load(
        store,
        delta_package(
            users=[
                small_row("users", "pupil-1", givenName="Ada"),
                small_row("users", "pupil-2"),
                new_user("new"),
            ],
            enrollments=[deleted_row("enr-1"), deleted_row("never-was")],
        ),
    )
    assert changed_ids(before, bodies(store)) == {"pupil-1", "new", "enr-1"}
    assert objects(store, "users")["pupil-1"]["givenName"] == "Ada"
    assert objects(store, "enrollments")["enr-1"]["status"] == "tobedeleted"
    assert objects(store, "enrollments")["enr-1"]["role"] == "student"
    assert report.total() == {"created": 1, "updated": 1, "deleted": 1, "revived": 0, "unchanged": 2}
    assert check_store(store, "default").ok


def test_delta_deletes_and_revives_once(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, delta_package(results=[deleted_row("result-1", "inactive")]))
    load(store, delta_package(results=[deleted_row("result-1")]), "unchanged")
    report = load(store, delta_package(results=[small_row("results", "result-1")]))
    assert report.total()["revived"] == 1
    load(store, delta_package(results=[small_row("results", "result-1")]), "unchanged")


def test_delta_for_empty_store_ignores_deletions(store: Backend, load: Load) -> None:
    report = load(store, delta_package(orgs=[*({**row} for row in ROWS["orgs"]), deleted_row("unknown")]))
    assert report.total() == {"created": 3, "updated": 0, "deleted": 0, "revived": 0, "unchanged": 0}
    assert [child["sourcedId"] for child in objects(store, "orgs")["org-1"]["children"]] == ["org-2", "org-3"]


def test_delta_updates_children_of_unlisted_parents(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(
        store,
        delta_package(orgs=[deleted_row("org-3"), school("org-4", "org-2")]),
    )
    orgs = objects(store, "orgs")
    assert [child["sourcedId"] for child in orgs["org-1"]["children"]] == ["org-2"]
    assert [child["sourcedId"] for child in orgs["org-2"]["children"]] == ["org-4"]
    load(store, delta_package(orgs=[school("org-4", "org-1")]))
    orgs = objects(store, "orgs")
    assert [child["sourcedId"] for child in orgs["org-1"]["children"]] == ["org-2", "org-4"]
    assert "children" not in orgs["org-2"]


def test_delta_updates_resources_of_unlisted_classes(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, delta_package(classResources=[deleted_row("kr-2")]))
    assert [child["sourcedId"] for child in objects(store, "classes")["class-1"]["resources"]] == ["res-2"]
    more = {"sourcedId": "kr-3", "classSourcedId": "class-2", "resourceSourcedId": "res-1"}
    load(store, delta_package(classResources=[more], classes=[small_row("classes", "class-1", title="Renamed")]))
    classes = objects(store, "classes")
    assert [child["sourcedId"] for child in classes["class-1"]["resources"]] == ["res-2"]
    assert [child["sourcedId"] for child in classes["class-2"]["resources"]] == ["res-1"]
    assert check_store(store, "default").ok


def test_mixed_modes_are_applied_with_a_warning(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = delta_package(users=[small_row("users", "pupil-2", givenName="Ada")])
    package.properties["file.results"], package.rows["results"] = "bulk", []
    report = load(store, package)
    assert report.total()["deleted"] == 1
    assert objects(store, "results")["result-1"]["status"] == "tobedeleted"
    assert [warning["code"] for warning in report.to_dict()["warnings"]] == ["mixed_modes"]


def test_invalid_delta_row_is_rejected_with_its_place(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    [missing] = rejection_errors(store, tmp_path, delta_package(users=[small_row("users", "pupil-1", status="")]))
    assert (missing["code"], missing["column"]) == ("missing_value", "status")
    row = small_row("users", "pupil-1", orgSourcedIds="unknown")
    [dangling] = rejection_errors(store, tmp_path, delta_package(users=[row]))
    assert (dangling["code"], dangling["column"]) == ("dangling_reference", "orgSourcedIds")
    assert {(error["file"], error["row"]) for error in (missing, dangling)} == {("users.csv", 2)}


def test_reference_to_record_deleted_by_package_is_rejected(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    package = delta_package(classes=[deleted_row("class-1")], enrollments=[small_row("enrollments", "enr-1")])
    [error] = rejection_errors(store, tmp_path, package)
    assert (error["code"], error["value"]) == ("dangling_reference", "class-1")
    backwards = delta_package(
        users=[small_row("users", "pupil-1", agentSourcedIds="parent-1"), deleted_row("parent-1")]
    )
    [error] = rejection_errors(store, tmp_path, backwards)
    assert (error["code"], error["value"], error["row"]) == ("dangling_reference", "parent-1", 2)
    forwards = delta_package(users=[small_row("users", "pupil-1", agentSourcedIds="later"), new_user("later")])
    load(store, forwards)


def test_cycle_with_stored_records_is_rejected(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    [error] = rejection_errors(
        store, tmp_path, delta_package(orgs=[small_row("orgs", "org-1", parentSourcedId="org-2")])
    )
    assert (error["code"], error["value"]) == ("cycle", "org-2")


def test_repeated_id_in_delta_is_rejected(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    [error] = rejection_errors(
        store, tmp_path, delta_package(users=[small_row("users", "pupil-1"), deleted_row("pupil-1")])
    )
    assert error["code"] == "repeated_id"


def rows_by_id(package: PackageBuilder) -> dict[str, dict[str, Row]]:
    return {name: {row["sourcedId"]: row for row in rows} for name, rows in package.rows.items()}


def random_package(draw: random.Random) -> PackageBuilder:
    package = PackageBuilder()
    for name in ("results", "enrollments", "classResources", "courseResources"):
        package.rows[name] = [row for row in package.rows[name] if draw.random() < 0.6]
    for row in (*package.rows["users"], *package.rows["orgs"]):
        row["metadata.x"] = draw.choice(["", "1", "2"])
    package.extra = {"users": ["metadata.x"], "orgs": ["metadata.x"]}
    package.rows["orgs"] += [
        school(f"more-{number}", draw.choice(["org-1", "org-2", ""])) for number in range(4) if draw.random() < 0.6
    ]
    return package


def difference(old: PackageBuilder, new: PackageBuilder, draw: random.Random) -> PackageBuilder:
    """Return the delta package that leads from one package to another, with shuffled rows."""
    old_rows, new_rows = rows_by_id(old), rows_by_id(new)
    changes: dict[str, list[Row]] = {}
    for name in FILES:
        changed = [row for key, row in new_rows[name].items() if old_rows[name].get(key) != row]
        changes[name] = changed + [deleted_row(key) for key in old_rows[name].keys() - new_rows[name].keys()]
        draw.shuffle(changes[name])
    package = delta_package(**changes)
    package.extra = new.extra
    return package


def bodies_without_timestamp(store: Backend) -> dict[str, dict[str, bytes]]:
    return {
        name: {key: without_timestamp(body) for key, body in records.items()} for name, records in bodies(store).items()
    }


@pytest.mark.parametrize("seed", range(8))
def test_delta_between_two_rosters_gives_the_second(store: Backend, load: Load, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    first, second = random_package(draw), random_package(draw)
    step = difference(first, second, draw)
    with open_store("memory:", COLLECTIONS) as expected:
        load(store, first)
        if any(step.rows.values()):
            load(store, step)
        load(expected, first)
        import_package(expected, "default", second.folder(tmp_path / "second"), UNLIMITED)
        assert bodies_without_timestamp(store) == bodies_without_timestamp(expected)
        assert check_store(store, "default").ok
