"""Records that refer to a record which an import deletes: no active record refers to a deleted one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import UNLIMITED, Load, bodies, changed_ids, objects, referenced_ids
from tests.roster.gradebook.conftest import ITEM_WITHOUT_DEFAULTS, RESULT, put
from tests.support.packages import PackageBuilder, deleted_row, delta_package, small_row


def dangling_references(store: Backend) -> Iterator[str]:
    """Yield each reference of an active record to a record that is not active."""
    stored = {
        name: {key: orjson.loads(body) for key, body in records.items()} for name, records in bodies(store).items()
    }
    active = {name: {k for k, v in records.items() if v["status"] == "active"} for name, records in stored.items()}
    for name, records in stored.items():
        for key in active[name]:
            for reference in FILES[name].references:
                for target in ResourceType.referenced_ids(records[key].get(reference.name)):
                    if target not in active[reference.target]:
                        yield f"{name} {key}: {reference.name} {target}"
            if FILES[name].shares_ids_with and key not in active[FILES[name].shares_ids_with]:
                yield f"{name} {key}: no {FILES[name].shares_ids_with}"


def assert_sound(store: Backend) -> None:
    """Assert that no active record refers to a deleted one, and that `check` finds no problem."""
    assert list(dangling_references(store)) == []
    assert check_store(store).problems == []


def deleted(store: Backend, name: str) -> set[str]:
    """Return the ids of the deleted records of a collection."""
    return {key for key, record in objects(store, name).items() if record["status"] != "active"}


@pytest.mark.every_backend
@pytest.mark.reading("I-26")
def test_deleted_user_takes_its_dependents_along(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    report = load(
        store, PackageBuilder().only("users").drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds="")
    )
    assert changed_ids(before, bodies(store)) == {"pupil-1", "parent-1", "enr-1", "result-1"}
    assert (deleted(store, "enrollments"), deleted(store, "results")) == ({"enr-1"}, {"result-1"})
    assert deleted(store, "demographics") == {"pupil-1"}
    assert {
        objects(store, name)[key]["dateLastModified"] for name, key in (("users", "pupil-1"), ("enrollments", "enr-1"))
    } == {report.timestamp}
    assert report.files["enrollments"].counts == {"deleted": 1}
    assert_sound(store)


@pytest.mark.parametrize(
    ("file", "key", "names"),
    [
        ("classes", "class-1", {"classResources", "enrollments", "lineItems", "results", "classes"}),
        (
            "courses",
            "course-1",
            {"courses", "courseResources", "classes", "classResources", "enrollments", "lineItems", "results"},
        ),
        ("lineItems", "item-1", {"lineItems", "results"}),
        ("resources", "res-1", {"resources", "courseResources", "classResources"}),
        (
            "academicSessions",
            "term-1",
            {"academicSessions", "classes", "classResources", "enrollments", "lineItems", "results"},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["bulk", "delta"])
def test_deletion_reaches_every_dependent(
    store: Backend, load: Load, file: str, key: str, names: set[str], mode: str
) -> None:
    load(store, PackageBuilder())
    package = (
        PackageBuilder().only(file).set(file, key, sourcedId="other")
        if mode == "bulk"
        else delta_package(**{file: [deleted_row(key)]})
    )
    if file == "academicSessions" and mode == "bulk":
        package.set("academicSessions", "period-1", parentSourcedId="")
    load(store, package)
    assert {name for name in FILES if deleted(store, name)} == names
    assert_sound(store)


def test_optional_references_to_deleted_records_are_removed(store: Backend, load: Load) -> None:
    load(store, PackageBuilder().set("users", "pupil-2", orgSourcedIds="org-2,org-3"))
    package = delta_package(
        users=[deleted_row("parent-1")],
        orgs=[deleted_row("org-3")],
        academicSessions=[deleted_row("period-1"), deleted_row("year-1")],
    )
    load(store, package)
    users = objects(store, "users")
    assert (users["pupil-1"]["status"], users["pupil-1"]["agents"]) == ("active", [])
    assert referenced_ids(users["pupil-2"]["orgs"]) == ["org-2"]
    assert "gradingPeriod" not in objects(store, "lineItems")["item-1"]
    assert "parent" not in objects(store, "academicSessions")["term-1"]
    assert "schoolYear" not in objects(store, "courses")["course-1"]
    assert referenced_ids(objects(store, "orgs")["org-1"]["children"]) == ["org-2"]
    assert_sound(store)


def test_resources_of_a_class_lose_a_deleted_resource(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, delta_package(resources=[deleted_row("res-1")]))
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-2"]
    assert "resources" not in objects(store, "courses")["course-1"]
    assert_sound(store)


@pytest.mark.reading("W-09")
def test_category_in_use_stays_with_a_warning(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    more = {"sourcedId": "cat-2", "title": "Tests"}
    package = PackageBuilder().only("categories")
    package.rows["categories"] = [more]
    report = load(store, package)
    assert deleted(store, "categories") == set()
    assert [warning.code for warning in report.problems.warnings] == ["used_category"]
    load(store, delta_package(categories=[deleted_row("cat-1"), deleted_row("cat-2")]))
    assert deleted(store, "categories") == {"cat-2"}
    load(
        store,
        delta_package(categories=[deleted_row("cat-1")], lineItems=[deleted_row("item-1")]),
        "committed",
        UNLIMITED,
    )
    assert deleted(store, "categories") == {"cat-1", "cat-2"}
    assert_sound(store)


@pytest.mark.reading("W-10")
def test_records_of_grade_tools_follow_their_class(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    put(store, "lineItems", "tool-1", ITEM_WITHOUT_DEFAULTS)
    put(
        store, "results", "tool-2", {**RESULT, "lineItem": {"sourcedId": "tool-1"}, "student": {"sourcedId": "pupil-2"}}
    )
    package = PackageBuilder().drop("classes", "class-1").drop("classResources", "kr-1", "kr-2")
    for name in ("enrollments", "lineItems", "results"):
        package.rows[name] = []
    load(store, package)
    assert deleted(store, "lineItems") == {"item-1", "tool-1"}
    assert deleted(store, "results") == {"result-1", "tool-2"}
    with store.read("default") as snapshot:
        assert not [key for key in snapshot.keys("origins") if not key.startswith("categories/")]
    assert_sound(store)


@pytest.mark.reading("I-07")
def test_row_cannot_refer_to_a_record_that_the_package_deletes(store: Backend, load: Load) -> None:
    report = load(store, PackageBuilder().set("classes", "class-1", status="tobedeleted"), "refused")
    assert {(error.code, error.file, error.value) for error in report.problems.errors} == {
        ("dangling_reference", f"{name}.csv", "class-1") for name in ("classResources", "enrollments", "lineItems")
    }
    load(store, PackageBuilder())
    package = PackageBuilder().only("courses", "enrollments").drop("courses", "course-1")
    package.rows["courses"] = [small_row("courses", "course-1", sourcedId="course-2")]
    report = load(store, package, "refused")
    assert {(error.file, error.value) for error in report.problems.errors} == {("enrollments.csv", "class-1")}


def random_partial_package(draw: random.Random) -> PackageBuilder:
    """Return a bulk or delta package of some files, with some rows left out or deleted and others changed."""
    names = [name for name in FILES if draw.random() < 0.5] or ["users"]
    package = PackageBuilder().only(*names)
    for name in names:
        rows = package.rows[name]
        if draw.random() < 0.5:
            package.rows[name] = [row for row in rows if draw.random() < 0.7]
            continue
        package.properties[f"file.{name}"] = "delta"
        stamp = {"dateLastModified": "2026-09-01T10:00:00.000Z"}
        states = [(row, draw.choice(["active", "active", "tobedeleted"])) for row in rows if draw.random() < 0.6]
        package.rows[name] = [
            (row if state == "active" else {"sourcedId": row["sourcedId"]}) | stamp | {"status": state}
            for row, state in states
        ]
    if "users" in package.rows and draw.random() < 0.5:
        for row in package.rows["users"]:
            row["agentSourcedIds"] = ""
    return package


@pytest.mark.parametrize("seed", range(4))
def test_no_active_record_refers_to_a_deleted_one(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    states = set()
    with open_store("memory:", COLLECTIONS) as store:
        for _ in range(15):
            package = PackageBuilder() if draw.random() < 0.2 else random_partial_package(draw)
            states.add(import_package(store, "default", package.folder(tmp_path / "package"), UNLIMITED).state)
            assert_sound(store)
    assert "committed" in states
