"""Round trips: an export, imported into an empty store and exported again, gives the same bytes."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.gradebook import writes
from chalk_flask.roster.imports import import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import UNLIMITED, Load, bodies, objects, rejection_errors
from tests.roster.export.test_exporter import active_bodies, export, read_csv
from tests.roster.gradebook.conftest import ITEM, ITEM_WITHOUT_DEFAULTS, RESULT, all_visible, no_callback
from tests.support.packages import PackageBuilder, deleted_row, delta_package, small_row

WHEN = "2026-09-01T10:00:00.000Z"
SEEDS = 3
STEPS = 4

WITHOUT_SCORE = {name: value for name, value in RESULT.items() if name != "score"}
EXEMPT = WITHOUT_SCORE | {"scoreStatus": "exempt"}


def put(store: Backend, name: str, key: str, payload: dict[str, Any]) -> None:
    """Write a record as a grade tool does; ignore rejected writes."""
    with contextlib.suppress(writes.InvalidPayloadError, writes.RecordNotFoundError):
        writes.put(store, "default", FILES[name], key, payload, all_visible, no_callback)


def check_round_trip(store: Backend, load: Load, folder: Path) -> dict[str, dict[str, bytes]]:
    """Export, import into an empty store, compare a second export, and return the active records of that store."""
    result = export(store, folder / "first.zip")
    with open_store("memory:", COLLECTIONS) as other:
        load(other, folder / "first.zip", "committed" if result.rows else "unchanged")
        assert export(other, folder / "second.zip").rows == result.rows
        assert (folder / "first.zip").read_bytes() == (folder / "second.zip").read_bytes()
        assert check_store(other).problems == []
        return active_bodies(other)


@pytest.mark.every_backend
@pytest.mark.reading("I-29", "I-30")
def test_round_trip_keeps_missing_score_and_period(store: Backend, load: Load, tmp_path: Path) -> None:
    load(
        store,
        PackageBuilder().drop("academicSessions", "period-1").set("lineItems", "item-1", gradingPeriodSourcedId=""),
    )
    put(store, "lineItems", "item-2", ITEM_WITHOUT_DEFAULTS)
    put(store, "results", "result-2", EXEMPT)
    for status in ("not submitted", "submitted"):
        put(store, "results", status, WITHOUT_SCORE | {"scoreStatus": status})
    results = objects(store, "results")
    for key in ("result-2", "not submitted", "submitted"):
        assert "score" not in results[key]
    assert "gradingPeriod" not in objects(store, "lineItems")["item-2"]
    assert check_round_trip(store, load, tmp_path) == active_bodies(store)


@pytest.mark.reading("I-29")
@pytest.mark.parametrize("status", ["exempt", "not submitted", "submitted"])
def test_import_requires_score_unless_the_status_has_none(
    store: Backend, load: Load, tmp_path: Path, status: str
) -> None:
    load(store, PackageBuilder())
    bare = {"score": ""}
    for graded in ("fully graded", "partially graded"):
        row = small_row("results", "result-1", **bare, scoreStatus=graded)
        (error,) = rejection_errors(store, tmp_path, delta_package(results=[row]))
        assert (error["code"], error["column"], error["row"]) == ("missing_value", "score", 2)
        expected = "a value is required unless scoreStatus is exempt or not submitted or submitted"
        assert error["message"] == expected
    load(store, delta_package(results=[small_row("results", "result-1", **bare, scoreStatus=status)]))
    assert "score" not in objects(store, "results")["result-1"]
    load(store, delta_package(results=[small_row("results", "result-1", scoreStatus=status)]))
    assert objects(store, "results")["result-1"]["score"] == 9.25


def load_without_dependents(store: Backend, load: Load, package: PackageBuilder) -> None:
    """Import a package, but leave records of other files as they are, as earlier versions did."""
    before = bodies(store)
    load(store, package)
    with store.write("default") as transaction:
        for name in before.keys() - package.rows.keys():
            records = [FILES[name].record(FILES[name].normalize(body)) for body in before[name].values()]
            transaction.put(name, records)


@pytest.mark.reading("I-31")
def test_export_leaves_out_records_that_require_deleted_ones(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    put(store, "lineItems", "tool-1", ITEM | {"class": {"sourcedId": "class-2"}})
    put(store, "results", "tool-2", RESULT | {"lineItem": {"sourcedId": "tool-1"}})
    put(store, "results", "tool-3", RESULT | {"student": {"sourcedId": "pupil-2"}})
    package = PackageBuilder().only("classes", "users").drop("classes", "class-2").drop("users", "pupil-2")
    load_without_dependents(store, load, package)
    assert objects(store, "lineItems")["tool-1"]["status"] == "active"
    result = export(store, tmp_path / "all.zip")
    assert result.left_out == {"lineItems": 1, "results": 2}
    assert result.to_dict()["left_out"] == result.left_out
    assert "Left out of results: 2 records that refer to deleted" in result.to_text()
    assert [line[0] for line in read_csv(tmp_path / "all.zip", "lineItems")] == ["sourcedId", "item-1"]
    exported = check_round_trip(store, load, tmp_path)
    assert exported["results"].keys() == {"result-1"}
    before = {key for keys in active_bodies(store).values() for key in keys}
    assert before - {key for keys in exported.values() for key in keys} == {"tool-1", "tool-2", "tool-3"}


def test_export_leaves_out_optional_references_to_deleted(store: Backend, load: Load, tmp_path: Path) -> None:
    load(
        store,
        PackageBuilder()
        .set("users", "pupil-2", orgSourcedIds="org-2,org-3")
        .set("users", "teacher-1", orgSourcedIds="org-3"),
    )
    smaller = (
        PackageBuilder().only("orgs", "academicSessions").drop("orgs", "org-3").drop("academicSessions", "period-1")
    )
    load_without_dependents(store, load, smaller)
    result = export(store, tmp_path / "all.zip")
    assert result.left_out == {"users": 1, "classes": 1, "enrollments": 1}
    users = {line[0]: line[4] for line in read_csv(tmp_path / "all.zip", "users")}
    assert users["pupil-2"] == "org-2"
    assert "teacher-1" not in users
    assert read_csv(tmp_path / "all.zip", "lineItems")[1][9] == ""
    check_round_trip(store, load, tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": ""},
        {"x": None, "y": "kept"},
        {"": "no name", " padded ": "no", "y": " kept "},
        {"a.b": [], "deep": {"z": [1, None, True]}},
        {"=1+1": "=2", "quoted\",'": "line\nbreak"},
    ],
    ids=json.dumps,
)
def test_round_trip_of_metadata_gives_same_files(
    metadata: dict[str, Any], store: Backend, load: Load, tmp_path: Path
) -> None:
    load(store, PackageBuilder())
    put(store, "categories", "cat-2", {"title": " x ", "metadata": metadata})
    assert "cat-2" in objects(store, "categories")
    check_round_trip(store, load, tmp_path)


@pytest.mark.parametrize("score", [1e300, -0.0, 1e-7, 2**60, 0.1, "12.50", 1.7976931348623157e308, 5e-324])
def test_round_trip_of_numbers_gives_same_files(score: Any, store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    put(store, "results", "r", RESULT | {"score": score})
    assert "r" in objects(store, "results")
    assert check_round_trip(store, load, tmp_path) == active_bodies(store)


def test_round_trip_of_empty_store(store: Backend, load: Load, tmp_path: Path) -> None:
    assert check_round_trip(store, load, tmp_path) == active_bodies(store)


class RandomChanges:
    """Random changes of a store by bulk files, delta files and a grade tool."""

    def __init__(self, store: Backend, folder: Path, draw: random.Random) -> None:
        self.store, self.folder, self.draw = store, folder, draw
        self.steps: list[Callable[[], None]] = [
            self.bulk,
            self.some_files,
            self.delta,
            self.grade,
            self.grade,
            self.ungrade,
        ]

    def step(self) -> None:
        self.draw.choice(self.steps)()

    def bulk(self) -> None:
        package = PackageBuilder()
        for name in ("results", "enrollments", "classResources"):
            package.rows[name] = [row for row in package.rows[name] if self.draw.random() < 0.6]
        package.set("users", "pupil-1", givenName=self.draw.choice(["Ada", "Bo"]))
        self.import_package(package)

    def some_files(self) -> None:
        """Import a single file, perhaps without a record that other records refer to."""
        name, *keys = self.draw.choice(
            [("users", "pupil-2"), ("classes", "class-2"), ("resources", "res-1"), ("academicSessions", "period-1")]
        )
        self.import_package(
            PackageBuilder().only(name).drop(name, *keys) if self.draw.random() < 0.7 else PackageBuilder().only(name)
        )

    def delta(self) -> None:
        name = self.draw.choice(list(FILES))
        rows = [dict(row) for row in PackageBuilder().rows[name]]
        self.import_package(
            delta_package(
                **{name: [row if self.draw.random() < 0.5 else deleted_row(row["sourcedId"]) for row in rows]}
            )
        )

    def import_package(self, package: PackageBuilder) -> None:
        """Import a package; it may be rejected or change nothing."""
        import_package(self.store, "default", package.folder(self.folder / "next"), UNLIMITED)

    def grade(self) -> None:
        item, number = f"tool-{self.draw.randrange(3)}", self.draw.randrange(4)
        klass, student = f"class-{self.draw.randrange(1, 3)}", f"pupil-{self.draw.randrange(1, 3)}"
        put(self.store, "lineItems", item, ITEM_WITHOUT_DEFAULTS | {"class": {"sourcedId": klass}, "dueDate": WHEN})
        payload = EXEMPT if self.draw.random() < 0.5 else RESULT | {"score": self.draw.random() * 10}
        to = {"lineItem": {"sourcedId": item}, "student": {"sourcedId": student}, "metadata": {"try": number, "x": ""}}
        put(self.store, "results", f"score-{number}", payload | to)

    def ungrade(self) -> None:
        name, key = self.draw.choice([("lineItems", "tool-0"), ("results", "score-1"), ("results", "result-1")])
        with contextlib.suppress(writes.RecordNotFoundError):
            writes.delete(self.store, "default", FILES[name], key, all_visible, no_callback)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_round_trip_after_random_changes(seed: int, store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    history = RandomChanges(store, tmp_path, random.Random(seed))
    for _ in range(STEPS):
        history.step()
        history.step()
        history.step()
        check_round_trip(store, load, tmp_path)


def test_delta_export_contains_gradebook_and_tombstones(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    put(store, "lineItems", "item-2", ITEM_WITHOUT_DEFAULTS)
    put(store, "results", "result-2", EXEMPT)
    with open_store("memory:", COLLECTIONS) as copy:
        export(store, tmp_path / "all.zip")
        load(copy, tmp_path / "all.zip")
        since = load(store, delta_package(users=[small_row("users", "parent-1", givenName="New")])).timestamp
        load(store, delta_package(results=[deleted_row("result-1")], enrollments=[deleted_row("enr-1")]))
        put(store, "results", "result-3", EXEMPT | {"comment": "excused"})
        writes.delete(store, "default", FILES["results"], "result-2", all_visible, no_callback)
        load(store, delta_package(enrollments=[small_row("enrollments", "enr-1", role="student")]))
        put(store, "lineItems", "item-2", ITEM_WITHOUT_DEFAULTS | {"title": "changed"})
        load(copy, delta_package(users=[small_row("users", "parent-1", givenName="New")]))
        result = export(store, tmp_path / "delta.zip", since=since)
        assert result.rows == {"enrollments": 1, "lineItems": 1, "results": 3}
        load(copy, tmp_path / "delta.zip")
        here, there = bodies(store), bodies(copy)
        assert {n: {k: without_timestamp(b) for k, b in records.items()} for n, records in here.items()} == {
            n: {k: without_timestamp(b) for k, b in records.items()} for n, records in there.items()
        }
