"""Later imports: what moves, what stays, what goes and what comes back, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends import Backend, Snapshot, Transaction
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import RosterStore
from tests.roster.conftest import Load, bodies, ids, moved, objects
from tests.support.packages import CSV_PACKAGES, ROWS, Made

COUNT = sum(map(len, ROWS.values()))


def revision(store: Backend) -> int:
    with store.read("default") as snapshot:
        return snapshot.revision


@pytest.mark.parametrize(
    "package", [CSV_PACKAGES / "minimal", CSV_PACKAGES / "quirks", Made()], ids=["minimal", "quirks", "made"]
)
def test_the_same_package_again_moves_nothing(store: Backend, load: Load, package: Path | Made) -> None:
    load(store, package)
    before, number = bodies(store), revision(store)
    report = load(store, package, "unchanged")
    assert (bodies(store), revision(store)) == (before, number)
    assert report.timestamp is None
    assert report.total() == {"unchanged": sum(map(len, before.values()))} | dict.fromkeys(
        ("created", "updated", "deleted", "revived"), 0
    )


def test_rows_in_another_order_are_no_change(store: Backend, load: Load) -> None:
    load(store, Made())
    package = Made()
    for rows in package.rows.values():
        rows.reverse()
    load(store, package, "unchanged")


def test_a_changed_record_moves_and_nothing_else(store: Backend, load: Load) -> None:
    first = load(store, Made())
    before = bodies(store)
    report = load(store, Made().set("users", "pupil-1", givenName="Ada"))
    assert moved(before, bodies(store)) == {"pupil-1"}
    assert report.total() == {"created": 0, "updated": 1, "deleted": 0, "revived": 0, "unchanged": COUNT - 1}
    assert report.timestamp is not None
    assert first.timestamp is not None
    assert objects(store, "users")["pupil-1"]["dateLastModified"] == report.timestamp > first.timestamp


def test_a_missing_record_is_marked_as_deleted_and_keeps_what_it_said(store: Backend, load: Load) -> None:  # I-04
    load(store, Made())
    before, user = bodies(store), objects(store, "users")["pupil-2"]
    report = load(store, Made().drop("users", "pupil-2"))
    assert moved(before, bodies(store)) == {"pupil-2"}
    assert objects(store, "users")["pupil-2"] == user | {"status": "tobedeleted", "dateLastModified": report.timestamp}
    assert report.files["users"].counts == {"unchanged": 3, "deleted": 1}
    load(store, Made().drop("users", "pupil-2"), "unchanged")


def test_a_deleted_record_that_returns_is_revived(store: Backend, load: Load) -> None:  # I-04
    load(store, Made())
    load(store, Made().drop("users", "pupil-2"))
    before = bodies(store)
    report = load(store, Made())
    assert moved(before, bodies(store)) == {"pupil-2"}
    assert objects(store, "users")["pupil-2"]["status"] == "active"
    assert report.files["users"].counts == {"unchanged": 3, "revived": 1}


def test_a_row_that_says_deleted_is_counted_as_such(store: Backend, load: Load) -> None:
    load(store, Made())
    report = load(store, Made().set("results", "result-1", status="tobedeleted"))
    assert report.files["results"].counts == {"deleted": 1}
    load(store, Made().drop("results", "result-1"), "unchanged")


def test_children_follow_their_records_and_move_the_parent(store: Backend, load: Load) -> None:  # I-08
    load(store, Made())
    assert ids(objects(store, "orgs")["org-1"]["children"]) == ["org-2", "org-3"]
    package = Made().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2")
    package.rows["orgs"].insert(0, {"sourcedId": "org-0", "name": "New", "type": "school", "parentSourcedId": "org-1"})
    before = bodies(store)
    load(store, package)
    assert ids(objects(store, "orgs")["org-1"]["children"]) == ["org-0", "org-2"]
    assert moved(before, bodies(store)) == {"org-0", "org-1", "org-3", "class-2"}
    assert check_store(store).problems == []


def test_a_record_that_moves_to_another_parent_moves_both(store: Backend, load: Load) -> None:
    load(store, Made())
    before = bodies(store)
    load(store, Made().set("orgs", "org-3", parentSourcedId="org-2"))
    assert moved(before, bodies(store)) == {"org-1", "org-2", "org-3"}
    found = objects(store, "orgs")
    assert [ids(found[key].get("children", [])) for key in ("org-1", "org-2")] == [["org-2"], ["org-3"]]


def test_nobody_is_the_child_of_a_deleted_record_or_a_deleted_child(store: Backend, load: Load) -> None:  # I-08
    package = Made().set("orgs", "org-1", status="tobedeleted").set("academicSessions", "period-1", status="inactive")
    load(store, package)
    assert "children" not in objects(store, "orgs")["org-1"]
    assert "children" not in objects(store, "academicSessions")["term-1"]
    assert check_store(store).problems == []


def test_a_deleted_class_has_no_resources(store: Backend, load: Load) -> None:
    load(store, Made().set("classes", "class-1", status="tobedeleted"))
    assert "resources" not in objects(store, "classes")["class-1"]
    assert check_store(store).problems == []


def test_resources_follow_the_links(store: Backend, load: Load) -> None:  # I-08
    load(store, Made())
    assert ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1", "res-2"]
    before = bodies(store)
    package = Made().drop("classResources", "kr-2").set("courseResources", "cr-1", resourceSourcedId="res-2")
    load(store, package)
    assert ids(objects(store, "classes")["class-1"]["resources"]) == ["res-2"]
    assert ids(objects(store, "courses")["course-1"]["resources"]) == ["res-2"]
    assert moved(before, bodies(store)) == {"kr-2", "class-1", "cr-1", "course-1"}


def test_links_alone_move_the_classes_that_are_stored(store: Backend, load: Load) -> None:  # I-14
    load(store, Made())
    before = bodies(store)
    package = Made().only("classResources", "courseResources").drop("classResources", "kr-1")
    package.rows["courseResources"] = []
    report = load(store, package)
    assert moved(before, bodies(store)) == {"kr-1", "class-1", "cr-1", "course-1"}
    assert ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1"]
    assert "resources" not in objects(store, "courses")["course-1"]
    assert (report.files["classes"].rows, report.files["classes"].counts) == (0, {"updated": 1})
    assert report.total()["updated"] == 2
    assert check_store(store).problems == []


def test_classes_alone_keep_the_links_that_are_stored(store: Backend, load: Load) -> None:  # I-14
    load(store, Made())
    before = bodies(store)
    load(store, Made().only("classes", "courses").set("classes", "class-1", title="Other"))
    assert moved(before, bodies(store)) == {"class-1"}
    assert ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1", "res-2"]


def test_files_that_are_absent_leave_their_records_as_they_are(store: Backend, load: Load) -> None:  # I-14
    load(store, Made())
    before = bodies(store)
    report = load(store, Made().only("users").drop("users", "pupil-2"))
    assert moved(before, bodies(store)) == {"pupil-2"}
    assert list(report.files) == ["users"]


def test_what_an_absent_file_says_of_a_deleted_record_stays(store: Backend, load: Load) -> None:  # I-26
    load(store, Made())
    load(store, Made().only("users").drop("users", "pupil-1").set("users", "parent-1", agentSourcedIds=""))
    assert objects(store, "enrollments")["enr-1"]["status"] == "active"
    assert check_store(store).problems == []


def test_a_partial_package_may_refer_to_what_is_stored_and_to_nothing_else(store: Backend, load: Load) -> None:  # I-14
    load(store, Made())
    load(store, Made().only("users").set("users", "pupil-1", orgSourcedIds="org-3"))
    before = bodies(store)
    report = load(store, Made().only("users").set("users", "pupil-1", orgSourcedIds="org-3,org-9"), "refused")
    [error] = report.problems.errors
    assert (error.code, error.row, error.column, error.value) == ("dangling_reference", 2, "orgSourcedIds", "org-9")
    assert "the active orgs that are stored" in error.message
    assert bodies(store) == before


def test_an_active_record_may_not_refer_to_a_deleted_one(store: Backend, load: Load) -> None:  # I-07
    load(store, Made())
    load(store, Made().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2"))
    report = load(store, Made().only("users").set("users", "pupil-2", orgSourcedIds="org-3"), "refused")
    assert [(e.code, e.value) for e in report.problems.errors] == [("dangling_reference", "org-3")]


def test_a_deleted_record_may_refer_to_a_deleted_one(store: Backend, load: Load) -> None:  # I-07
    load(store, Made().set("users", "pupil-2", orgSourcedIds="org-3"))
    gone = Made().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2")
    load(store, gone.set("users", "pupil-2", orgSourcedIds="org-3", status="tobedeleted"))
    load(store, Made().only("users").set("users", "pupil-2", orgSourcedIds="org-3", status="tobedeleted"), "unchanged")
    report = load(store, gone.set("users", "pupil-2", orgSourcedIds="org-9", status="tobedeleted"), "refused")
    assert [e.value for e in report.problems.errors] == ["org-9"]


class Interrupted:
    """A store whose first transaction begins only after somebody else has had one."""

    def __init__(self, store: Backend, first: Callable[[], object]) -> None:
        self._store = store
        self._first: list[Callable[[], object]] = [first]
        self.reads = 0

    def read(self, tenant: str) -> Snapshot:
        self.reads += 1
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        while self._first:
            self._first.pop()()
        return self._store.write(tenant)


def test_what_another_writer_did_between_comparing_and_writing_is_not_lost(store: Backend, tmp_path: Path) -> None:
    def put(store: RosterStore, package: Made, name: str) -> ImportReport:
        return import_package(store, "default", package.folder(tmp_path / name), ImportOptions())

    put(store, Made(), "first")
    before = bodies(store)
    theirs = Made().set("users", "pupil-1", givenName="Theirs")
    interrupted = Interrupted(store, lambda: put(store, theirs, "theirs"))
    report = put(interrupted, Made().only("classes").set("classes", "class-1", title="Ours"), "ours")
    assert (report.state, report.total()["updated"], interrupted.reads) == ("committed", 1, 2)
    assert moved(before, bodies(store)) == {"pupil-1", "class-1"}


def test_a_roster_that_was_deleted_meanwhile_is_compared_again(store: Backend, tmp_path: Path) -> None:
    def put(store: RosterStore, package: Made, name: str) -> ImportReport:
        return import_package(store, "default", package.folder(tmp_path / name), ImportOptions())

    empty = Made()
    empty.rows = {name: [] for name in FILES} | {"orgs": [{"sourcedId": "else", "name": "Else", "type": "district"}]}
    put(store, Made(), "first")
    interrupted = Interrupted(store, lambda: put(store, empty, "theirs"))
    report = put(interrupted, Made().set("classes", "class-1", title="Ours"), "ours")
    assert report.total() == {"created": 0, "updated": 0, "deleted": 1, "revived": COUNT, "unchanged": 0}
    assert check_store(store).problems == []
