"""Imports of bulk files into a store that already has a roster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends import Backend, Snapshot, Transaction
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import RosterStore
from tests.roster.conftest import UNLIMITED, Load, bodies, changed_ids, objects, referenced_ids
from tests.support.packages import CSV_PACKAGES, ROWS, PackageBuilder

COUNT = sum(map(len, ROWS.values()))


def revision(store: Backend) -> int:
    with store.read("default") as snapshot:
        return snapshot.revision


@pytest.mark.parametrize(
    "package", [CSV_PACKAGES / "minimal", CSV_PACKAGES / "quirks", PackageBuilder()], ids=["minimal", "quirks", "built"]
)
def test_same_package_again_changes_nothing(store: Backend, load: Load, package: Path | PackageBuilder) -> None:
    load(store, package)
    before, number = bodies(store), revision(store)
    report = load(store, package, "unchanged")
    assert (bodies(store), revision(store)) == (before, number)
    assert report.timestamp is None
    assert report.total() == {"unchanged": sum(map(len, before.values()))} | dict.fromkeys(
        ("created", "updated", "deleted", "revived"), 0
    )


def test_order_of_rows_does_not_matter(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder()
    for rows in package.rows.values():
        rows.reverse()
    load(store, package, "unchanged")


@pytest.mark.every_backend
def test_changed_row_updates_one_record(store: Backend, load: Load) -> None:
    first = load(store, PackageBuilder())
    before = bodies(store)
    report = load(store, PackageBuilder().set("users", "pupil-1", givenName="Ada"))
    assert changed_ids(before, bodies(store)) == {"pupil-1"}
    assert report.total() == {"created": 0, "updated": 1, "deleted": 0, "revived": 0, "unchanged": COUNT - 1}
    assert report.timestamp is not None
    assert first.timestamp is not None
    assert objects(store, "users")["pupil-1"]["dateLastModified"] == report.timestamp > first.timestamp


@pytest.mark.every_backend
@pytest.mark.reading("I-04")
def test_missing_row_makes_record_a_tombstone_with_its_values(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before, user = bodies(store), objects(store, "users")["pupil-2"]
    report = load(store, PackageBuilder().drop("users", "pupil-2"))
    assert changed_ids(before, bodies(store)) == {"pupil-2"}
    assert objects(store, "users")["pupil-2"] == user | {"status": "tobedeleted", "dateLastModified": report.timestamp}
    assert report.files["users"].counts == {"unchanged": 3, "deleted": 1}
    load(store, PackageBuilder().drop("users", "pupil-2"), "unchanged")


@pytest.mark.reading("I-04")
def test_returning_row_revives_tombstone(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("users", "pupil-2"))
    before = bodies(store)
    report = load(store, PackageBuilder())
    assert changed_ids(before, bodies(store)) == {"pupil-2"}
    assert objects(store, "users")["pupil-2"]["status"] == "active"
    assert report.files["users"].counts == {"unchanged": 3, "revived": 1}


def test_row_with_deleted_status_counts_as_deleted(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    report = load(store, PackageBuilder().set("results", "result-1", status="tobedeleted"))
    assert report.files["results"].counts == {"deleted": 1}
    load(store, PackageBuilder().drop("results", "result-1"), "unchanged")


@pytest.mark.reading("I-08")
def test_children_are_derived_and_update_the_parent(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    assert referenced_ids(objects(store, "orgs")["org-1"]["children"]) == ["org-2", "org-3"]
    package = PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2")
    package.rows["orgs"].insert(0, {"sourcedId": "org-0", "name": "New", "type": "school", "parentSourcedId": "org-1"})
    before = bodies(store)
    load(store, package)
    assert referenced_ids(objects(store, "orgs")["org-1"]["children"]) == ["org-0", "org-2"]
    assert changed_ids(before, bodies(store)) == {"org-0", "org-1", "org-3", "class-2"}
    assert check_store(store).problems == []


def test_new_parent_updates_both_parents(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    load(store, PackageBuilder().set("orgs", "org-3", parentSourcedId="org-2"))
    assert changed_ids(before, bodies(store)) == {"org-1", "org-2", "org-3"}
    orgs = objects(store, "orgs")
    assert [referenced_ids(orgs[key].get("children", [])) for key in ("org-1", "org-2")] == [["org-2"], ["org-3"]]


@pytest.mark.reading("I-08")
def test_children_exclude_deleted_parents_and_children(store: Backend, load: Load) -> None:
    package = (
        PackageBuilder()
        .set("orgs", "org-1", status="tobedeleted")
        .set("orgs", "org-2", parentSourcedId="")
        .set("orgs", "org-3", parentSourcedId="")
        .set("academicSessions", "period-1", status="inactive")
        .set("lineItems", "item-1", gradingPeriodSourcedId="")
    )
    package.rows["orgs"].append({**package.row("orgs", "org-1"), "sourcedId": "org-0", "parentSourcedId": "org-1"})
    load(store, package)
    assert "children" not in objects(store, "orgs")["org-1"]
    assert "children" not in objects(store, "academicSessions")["term-1"]
    assert check_store(store).problems == []


def test_deleted_class_has_no_resources(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("classes", "class-1", status="tobedeleted")
    for name in ("classResources", "enrollments", "lineItems", "results"):
        for row in package.rows[name]:
            row["status"] = "tobedeleted"
    load(store, package)
    assert "resources" not in objects(store, "classes")["class-1"]
    assert check_store(store).problems == []


@pytest.mark.reading("I-08")
def test_resources_are_derived_from_links(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1", "res-2"]
    before = bodies(store)
    package = PackageBuilder().drop("classResources", "kr-2").set("courseResources", "cr-1", resourceSourcedId="res-2")
    load(store, package)
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-2"]
    assert referenced_ids(objects(store, "courses")["course-1"]["resources"]) == ["res-2"]
    assert changed_ids(before, bodies(store)) == {"kr-2", "class-1", "cr-1", "course-1"}


@pytest.mark.reading("I-14")
def test_links_without_classes_update_stored_classes(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = PackageBuilder().only("classResources", "courseResources").drop("classResources", "kr-1")
    package.rows["courseResources"] = []
    report = load(store, package)
    assert changed_ids(before, bodies(store)) == {"kr-1", "class-1", "cr-1", "course-1"}
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1"]
    assert "resources" not in objects(store, "courses")["course-1"]
    assert (report.files["classes"].rows, report.files["classes"].counts) == (0, {"updated": 1})
    assert report.total()["updated"] == 2
    assert check_store(store).problems == []


@pytest.mark.reading("I-14")
def test_classes_without_links_keep_stored_links(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    load(store, PackageBuilder().only("classes", "courses").set("classes", "class-1", title="Other"))
    assert changed_ids(before, bodies(store)) == {"class-1"}
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1", "res-2"]


@pytest.mark.reading("I-14")
def test_absent_file_leaves_its_records_unchanged(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    report = load(store, PackageBuilder().only("users").drop("users", "pupil-2"))
    assert changed_ids(before, bodies(store)) == {"pupil-2"}
    assert list(report.files) == ["users"]


@pytest.mark.reading("I-14")
def test_partial_package_can_refer_to_stored_records_only(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().only("users").set("users", "pupil-1", orgSourcedIds="org-3"))
    before = bodies(store)
    report = load(store, PackageBuilder().only("users").set("users", "pupil-1", orgSourcedIds="org-3,org-9"), "refused")
    [error] = report.problems.errors
    assert (error.code, error.row, error.column, error.value) == ("dangling_reference", 2, "orgSourcedIds", "org-9")
    assert "the active orgs of the store" in error.message
    assert bodies(store) == before


@pytest.mark.reading("I-07")
def test_active_record_cannot_refer_to_tombstone(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2"))
    report = load(store, PackageBuilder().only("users").set("users", "pupil-2", orgSourcedIds="org-3"), "refused")
    assert [(e.code, e.value) for e in report.problems.errors] == [("dangling_reference", "org-3")]


@pytest.mark.reading("I-07")
def test_deleted_record_can_refer_to_tombstone(store: Backend, load: Load) -> None:
    load(store, PackageBuilder().set("users", "pupil-2", orgSourcedIds="org-3"))
    package = PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2")
    load(store, package.set("users", "pupil-2", orgSourcedIds="org-3", status="tobedeleted"))
    load(
        store,
        PackageBuilder().only("users").set("users", "pupil-2", orgSourcedIds="org-3", status="tobedeleted"),
        "unchanged",
    )
    report = load(store, package.set("users", "pupil-2", orgSourcedIds="org-9", status="tobedeleted"), "refused")
    assert [e.value for e in report.problems.errors] == ["org-9"]


def import_folder(store: RosterStore, package: PackageBuilder, path: Path) -> ImportReport:
    return import_package(store, "default", package.folder(path), UNLIMITED)


class InterruptedStore:
    """Store that calls `other_writer` before its first transaction begins."""

    def __init__(self, store: Backend, other_writer: Callable[[], object]) -> None:
        self._store = store
        self._other_writer: Callable[[], object] | None = other_writer
        self.reads = 0

    def read(self, tenant: str) -> Snapshot:
        self.reads += 1
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        if other_writer := self._other_writer:
            self._other_writer = None
            other_writer()
        return self._store.write(tenant)

    def tenants(self) -> list[str]:
        return self._store.tenants()


def test_concurrent_write_leads_to_new_comparison(store: Backend, tmp_path: Path) -> None:
    import_folder(store, PackageBuilder(), tmp_path / "first")
    before = bodies(store)
    other = PackageBuilder().set("users", "pupil-1", givenName="Theirs")
    interrupted = InterruptedStore(store, lambda: import_folder(store, other, tmp_path / "other"))
    report = import_folder(
        interrupted, PackageBuilder().only("classes").set("classes", "class-1", title="Ours"), tmp_path / "ours"
    )
    assert (report.state, report.total()["updated"], interrupted.reads) == ("committed", 1, 2)
    assert changed_ids(before, bodies(store)) == {"pupil-1", "class-1"}


def test_concurrent_deletion_leads_to_new_comparison(store: Backend, tmp_path: Path) -> None:
    empty = PackageBuilder()
    empty.rows = {name: [] for name in FILES} | {"orgs": [{"sourcedId": "else", "name": "Else", "type": "district"}]}
    import_folder(store, PackageBuilder(), tmp_path / "first")
    interrupted = InterruptedStore(store, lambda: import_folder(store, empty, tmp_path / "other"))
    report = import_folder(interrupted, PackageBuilder().set("classes", "class-1", title="Ours"), tmp_path / "ours")
    assert report.total() == {"created": 0, "updated": 0, "deleted": 1, "revived": COUNT, "unchanged": 0}
    assert check_store(store).problems == []


def test_revived_record_does_not_hide_a_missing_one(store: Backend, tmp_path: Path) -> None:
    import_folder(store, PackageBuilder(), tmp_path / "first")
    without_first = PackageBuilder().drop("courseResources", "cr-1").drop("classResources", "kr-2")
    import_folder(store, without_first.drop("resources", "res-1"), tmp_path / "later")
    without_second = PackageBuilder().drop("classResources", "kr-1").drop("resources", "res-2")
    report = import_folder(store, without_second, tmp_path / "last")
    resources = report.to_dict()["files"]["resources"]
    assert (resources["revived"], resources["deleted"], resources["unchanged"]) == (1, 1, 0)
