"""Imports while grade tools write: they are not repeated without need, lose no write, and end under any load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, Snapshot, Transaction, open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.approval import approve
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import UNLIMITED, Load, objects
from tests.roster.gradebook.conftest import ITEM, RESULT, delete, note_keys, put
from tests.roster.imports.conftest import held_packages, hold_folder, hold_package, import_zip
from tests.roster.imports.test_purge import age
from tests.support.packages import (
    PackageBuilder,
    deleted_row,
    delta_package,
    package_with_extra_users,
    package_with_users,
    small_row,
)

WITHOUT_LOCK = 2
"""Number of times that an import reads the roster without the write lock."""


class InterruptedStore:
    """Store in which another client writes each time before an import takes the write lock, `times` times in all.

    `reads` counts the snapshots of the import, which are its comparisons without the lock.
    """

    def __init__(self, store: Backend, write: Callable[[], object], times: int = 1) -> None:
        self.reads = 0
        self._store = store
        self._write = write
        self._times = times

    def read(self, tenant: str) -> Snapshot:
        self.reads += 1
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        if self._times:
            self._times -= 1
            self._write()
        return self._store.write(tenant)

    def tenants(self) -> list[str]:
        return self._store.tenants()


def import_interrupted(
    store: Backend, folder: Path, package: PackageBuilder, write: Callable[[], object], times: int = 1
) -> tuple[ImportReport, int]:
    """Import a package while another client writes. Return the report, and how often the roster was compared."""
    busy = InterruptedStore(store, write, times)
    report = import_package(busy, "default", package.folder(folder / "package"), UNLIMITED)
    assert check_store(store).problems == []
    return report, busy.reads


def renamed(*files: str) -> PackageBuilder:
    """Return a package with these files and another given name of a pupil."""
    package = PackageBuilder().set("users", "pupil-2", givenName="Renamed")
    return package.only(*files) if files else package


def untimed(store: Backend, name: str) -> dict[str, dict[str, Any]]:
    """Return the records of a collection by id, without their timestamps."""
    records = objects(store, name)
    for record in records.values():
        del record["dateLastModified"]
    return records


def result_of(student: str, **more: Any) -> dict[str, Any]:
    return {**RESULT, "student": {"sourcedId": student}, **more}


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
@pytest.mark.parametrize("files", [(), ("users",), ("users", "results"), ("users", "lineItems", "categories")])
def test_write_of_a_tool_does_not_repeat_an_import(
    store: Backend, load: Load, tmp_path: Path, files: tuple[str, ...]
) -> None:
    load(store, PackageBuilder())

    def write() -> None:
        put(store, "categories", "c", {"title": "Quiz"})
        put(store, "lineItems", "i", ITEM)
        put(store, "results", "r", result_of("pupil-2", lineItem={"sourcedId": "i"}))
        delete(store, "results", "r")
        put(store, "results", "s", result_of("pupil-1", lineItem={"sourcedId": "i"}))

    report, reads = import_interrupted(store, tmp_path, renamed(*files), write)
    assert (report.state, report.total()["updated"], reads) == ("committed", 1, 1)
    assert objects(store, "users")["pupil-2"]["givenName"] == "Renamed"
    statuses = {key: record["status"] for key, record in objects(store, "results").items()}
    assert statuses == {"result-1": "active", "r": "tobedeleted", "s": "active"}
    assert {"categories/c", "lineItems/i", "results/s"} <= note_keys(store)
    again, _ = import_interrupted(store, tmp_path, renamed(*files), lambda: None)
    assert again.state == "unchanged"
    assert objects(store, "results")["s"]["status"] == "active"


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
def test_tool_keeps_a_record_that_the_package_leaves_unchanged(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    report, reads = import_interrupted(
        store, tmp_path, renamed(), lambda: put(store, "results", "result-1", {**RESULT, "score": 1})
    )
    assert (report.state, reads) == ("committed", 1)
    assert objects(store, "results")["result-1"]["score"] == 1
    assert "results/result-1" in note_keys(store)
    again = load(store, renamed())
    assert again.total()["updated"] == 1, "the next import has the row, so the record belongs to it (W-10)"
    assert objects(store, "results")["result-1"]["score"] == 9.25


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
def test_tool_keeps_a_record_that_an_unchanged_package_claims(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    put(store, "results", "result-1", {**RESULT, "score": 5})
    put(store, "results", "result-1", RESULT)
    report, reads = import_interrupted(
        store,
        tmp_path,
        PackageBuilder().set("results", "result-1", dateLastModified="2026-09-01"),
        lambda: put(store, "results", "result-1", {**RESULT, "score": 1}),
    )
    assert (report.state, reads) == ("unchanged", 1)
    assert objects(store, "results")["result-1"]["score"] == 1
    assert "results/result-1" in note_keys(store)


CONFLICTS: dict[str, tuple[Callable[[], PackageBuilder], Callable[[Backend], object]]] = {
    "the package changes the record too": (
        lambda: PackageBuilder().set("results", "result-1", score="3"),
        lambda store: put(store, "results", "result-1", {**RESULT, "score": 1}),
    ),
    "the package omits the record": (
        lambda: PackageBuilder().drop("results", "result-1"),
        lambda store: put(store, "results", "result-1", {**RESULT, "score": 1}),
    ),
    "the package creates the record": (
        lambda: delta_package(results=[small_row("results", "result-1", sourcedId="new")]),
        lambda store: put(store, "results", "new", {**RESULT, "score": 1}),
    ),
    "the package deletes the student": (
        lambda: delta_package(users=[deleted_row("pupil-2")]),
        lambda store: put(store, "results", "r", result_of("pupil-2")),
    ),
    "the package deletes the class": (
        lambda: delta_package(classes=[deleted_row("class-2")]),
        lambda store: put(store, "lineItems", "i", {**ITEM, "class": {"sourcedId": "class-2"}}),
    ),
    "the package deletes the grading period": (
        lambda: delta_package(academicSessions=[deleted_row("period-1")]),
        lambda store: put(store, "lineItems", "i", ITEM),
    ),
    "the package refers to a deleted line item": (
        lambda: delta_package(results=[small_row("results", "result-1", sourcedId="new", studentSourcedId="pupil-2")]),
        lambda store: delete(store, "lineItems", "item-1"),
    ),
}


@pytest.mark.reading("I-32")
@pytest.mark.parametrize(("package", "write"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflict_has_the_result_of_the_write_before_the_import(
    store: Backend,
    load: Load,
    tmp_path: Path,
    package: Callable[[], PackageBuilder],
    write: Callable[[Backend], object],
) -> None:
    load(store, PackageBuilder())
    report, reads = import_interrupted(store, tmp_path, package(), lambda: write(store))
    assert reads == WITHOUT_LOCK
    result = {name: untimed(store, name) for name in FILES}, note_keys(store), report.state
    with open_store("memory:", COLLECTIONS) as other:
        load(other, PackageBuilder())
        write(other)
        expected = import_package(other, "default", package().folder(tmp_path / "package"), UNLIMITED)
        assert result == ({name: untimed(other, name) for name in FILES}, note_keys(other), expected.state)


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
def test_import_ends_under_the_lock_after_two_conflicts(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    scores = iter(range(100))

    def write() -> None:
        put(store, "results", "result-1", {**RESULT, "score": next(scores)})

    package = renamed().set("results", "result-1", score="99")
    report, reads = import_interrupted(store, tmp_path, package, write, times=1000)
    assert (report.state, report.total()["updated"], reads) == ("committed", 2, WITHOUT_LOCK)
    # Before both tries, before the lock, before the record of the run, and if the commit was late again.
    assert WITHOUT_LOCK + 2 <= next(scores) < 20
    assert objects(store, "users")["pupil-2"]["givenName"] == "Renamed"


@pytest.mark.every_backend
def test_locked_import_ends_in_every_state(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    names = iter(range(100))

    def import_other() -> None:
        import_package(store, "default", other_roster(next(names)).folder(tmp_path / "other"), UNLIMITED)

    def outcome(package: PackageBuilder) -> str:
        busy = InterruptedStore(store, import_other, times=WITHOUT_LOCK)
        report = import_package(busy, "default", package.folder(tmp_path / "package"), options)
        assert check_store(store).problems == []
        return report.state

    assert outcome(package_with_extra_users(range(196), renamed=[3])) == "committed"
    assert outcome(package_with_users(150)) == "held"
    assert len(held_packages(options)) == 1
    assert outcome(delta_package(users=[small_row("users", "pupil-1", role="king")])) == "refused"
    with store.write("default"):
        pass  # the lock is free


@pytest.mark.every_backend
def test_import_that_is_rejected_under_the_lock_releases_it(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    scores = iter(range(100))

    def write() -> None:
        if (score := next(scores)) < WITHOUT_LOCK:
            put(store, "results", "new", {**RESULT, "score": score})
        else:
            delete(store, "lineItems", "item-1")

    package = delta_package(results=[small_row("results", "result-1", sourcedId="new")])
    report, reads = import_interrupted(store, tmp_path, package, write, times=1 + WITHOUT_LOCK)
    assert (report.state, reads) == ("refused", WITHOUT_LOCK)
    with store.write("default", 5):
        assert next(scores) == 1 + WITHOUT_LOCK


def other_roster(number: int) -> PackageBuilder:
    return delta_package(orgs=[small_row("orgs", "org-3", identifier=f"N-{number}")])


@pytest.mark.reading("I-32")
@pytest.mark.parametrize("change", ["import", "import of results", "purge", "unknown writer"])
def test_any_other_change_repeats_the_import(
    store: Backend, load: Load, tmp_path: Path, change: str, options: ImportOptions
) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("results", "result-1"))
    if change == "purge":
        age(store, 91)

    def write() -> None:
        if change == "unknown writer":
            with store.write("default") as transaction:
                record = FILES["orgs"].record({**FILES["orgs"].normalize(body_of(store, "orgs", "org-3")), "name": "X"})
                transaction.put("orgs", [record])
            return
        package = {
            "import": other_roster(1),
            "import of results": delta_package(results=[small_row("results", "result-1", score="1")]),
            "purge": PackageBuilder().only("orgs"),
        }[change]
        assert import_zip(store, package, options, tmp_path).state in ("committed", "unchanged")

    report, reads = import_interrupted(store, tmp_path, renamed("users"), write)
    assert (report.state, reads) == ("committed", WITHOUT_LOCK)


def body_of(store: Backend, name: str, key: str) -> bytes:
    with store.read("default") as snapshot:
        return snapshot.get_many(name, [key])[key]


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
def test_purge_spares_a_tombstone_that_a_tool_wrote_again(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    load(store, PackageBuilder().drop("results", "result-1"))
    age(store, 91)
    report, reads = import_interrupted(
        store, tmp_path, renamed("users"), lambda: put(store, "results", "result-1", RESULT)
    )
    assert (report.state, report.purged, reads) == ("committed", 0, WITHOUT_LOCK)
    assert objects(store, "results")["result-1"]["status"] == "active"


@pytest.mark.reading("I-32")
def test_purge_spares_what_a_deleted_record_refers_to(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    put(store, "results", "r", RESULT)
    load(store, delta_package(users=[deleted_row("pupil-2")]))
    age(store, 91)
    gone = {**result_of("pupil-2"), "status": "tobedeleted"}
    report, reads = import_interrupted(store, tmp_path, renamed("orgs"), lambda: put(store, "results", "r", gone))
    assert (report.purged, reads) == (0, WITHOUT_LOCK)
    assert "pupil-2" in objects(store, "users")


@pytest.mark.reading("I-32")
def test_tool_on_an_empty_tenant_repeats_its_first_load(store: Backend, tmp_path: Path) -> None:
    report, reads = import_interrupted(
        store, tmp_path, PackageBuilder(), lambda: put(store, "categories", "c", {"title": "Quiz"})
    )
    assert (report.state, reads) == ("committed", WITHOUT_LOCK)
    assert {"c", "cat-1"} == objects(store, "categories").keys()


@pytest.mark.every_backend
@pytest.mark.reading("I-32")
def test_tools_do_not_overtake_a_held_package(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    put(store, "results", "r", RESULT)
    again = import_zip(store, package_with_users(150), options, tmp_path)
    assert (again.state, again.run) == ("held", report.run)
    assert len(held_packages(options)) == 1
    busy = InterruptedStore(store, lambda: put(store, "results", "result-1", {**RESULT, "score": 1}))
    assert approve(busy, "default", report.run, hold_folder(options)).state == "committed"
    assert objects(store, "results")["r"]["status"] == "active"
    assert check_store(store).problems == []


@pytest.mark.reading("I-32")
def test_tool_does_not_repeat_a_hold(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    path = package_with_users(150).zip(tmp_path / "package.zip")
    busy = InterruptedStore(store, lambda: put(store, "results", "r", RESULT))
    assert import_package(busy, "default", path, options).state == "held"
    assert busy.reads == 3, "the package and its copy are compared, each once, and expired packages are looked up"


def test_approval_conflict_with_a_tool_is_resolved(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    student = "u-190"
    busy = InterruptedStore(store, lambda: put(store, "results", "r", result_of(student)))
    assert approve(busy, "default", report.run, hold_folder(options)).state == "committed"
    assert objects(store, "users")[student]["status"] == "tobedeleted"
    assert "r" in objects(store, "results")
    assert check_store(store).problems == []
