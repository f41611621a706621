"""Export, import into an empty store, export: the same files, whatever a service has been through."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import MATCH_ALL, Backend, Transaction, Where, open_store
from chalk_flask.oneroster.resource_type import without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.gradebook import writes
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import Load, bodies, objects
from tests.roster.export.test_exporter import active, exported, table
from tests.roster.gradebook.test_writes import BARE, ITEM, RESULT
from tests.roster.imports.test_delta import delta, gone, refused, row
from tests.support.packages import Made

WHEN = "2026-09-01T10:00:00.000Z"
HISTORIES = 4
STEPS = 4

EXEMPT = {name: value for name, value in RESULT.items() if name != "score"} | {"scoreStatus": "exempt"}


def everything(_: str) -> Where:
    return MATCH_ALL


def nothing_more(_: Transaction) -> None:
    pass


def put(store: Backend, name: str, key: str, sent: dict[str, Any]) -> None:
    """Write as a grade tool does; what is not allowed at the moment is not written."""
    with contextlib.suppress(writes.InvalidPayloadError, writes.RecordNotFoundError):
        writes.put(store, "default", FILES[name], key, sent, everything, nothing_more)


def same_again(store: Backend, load: Load, folder: Path) -> dict[str, dict[str, bytes]]:
    """What an empty store holds after an export was imported there, once its own export is the same."""
    done = exported(store, folder / "first.zip")
    with open_store("memory:", COLLECTIONS) as other:
        load(other, folder / "first.zip", "committed" if done.rows else "unchanged")
        assert exported(other, folder / "second.zip").rows == done.rows
        assert (folder / "first.zip").read_bytes() == (folder / "second.zip").read_bytes()
        assert check_store(other).problems == []
        return active(other)


def test_a_result_without_a_score_and_an_item_without_a_period_go_there_and_back(
    store: Backend, load: Load, tmp_path: Path
) -> None:  # I-29, I-30
    load(store, Made().drop("academicSessions", "period-1").set("lineItems", "item-1", gradingPeriodSourcedId=""))
    put(store, "lineItems", "item-2", BARE)
    put(store, "results", "result-2", EXEMPT)
    assert "score" not in objects(store, "results")["result-2"]
    assert "gradingPeriod" not in objects(store, "lineItems")["item-2"]
    assert same_again(store, load, tmp_path) == active(store)


def test_only_who_is_exempt_needs_no_score(store: Backend, load: Load, tmp_path: Path) -> None:  # I-29
    load(store, Made())
    bare = {"score": ""}
    (error,) = refused(store, tmp_path, delta(results=[row("results", "result-1", **bare)]))
    assert (error["code"], error["column"], error["row"]) == ("missing_value", "score", 2)
    assert error["message"] == "a value is required unless scoreStatus is exempt"
    load(store, delta(results=[row("results", "result-1", **bare, scoreStatus="exempt")]))
    assert "score" not in objects(store, "results")["result-1"]
    load(store, delta(results=[row("results", "result-1", scoreStatus="exempt")]))
    assert objects(store, "results")["result-1"]["score"] == 9.25


def test_what_names_deleted_records_is_left_out_and_said_to_be(
    store: Backend, load: Load, tmp_path: Path
) -> None:  # I-31
    load(store, Made())
    put(store, "lineItems", "tool-1", ITEM | {"class": {"sourcedId": "class-2"}})
    put(store, "results", "tool-2", RESULT | {"lineItem": {"sourcedId": "tool-1"}})
    put(store, "results", "tool-3", RESULT | {"student": {"sourcedId": "pupil-2"}})
    load(store, Made().only("classes", "users").drop("classes", "class-2").drop("users", "pupil-2"))
    assert objects(store, "lineItems")["tool-1"]["status"] == "active"
    done = exported(store, tmp_path / "all.zip")
    assert done.left_out == {"lineItems": 1, "results": 2}
    assert done.to_dict()["left_out"] == done.left_out
    assert "Left out of results: 2 records that refer to deleted" in done.to_text()
    assert [line[0] for line in table(tmp_path / "all.zip", "lineItems")] == ["sourcedId", "item-1"]
    kept = same_again(store, load, tmp_path)
    assert kept["results"].keys() == {"result-1"}
    before = {key for each in active(store).values() for key in each}
    assert before - {key for each in kept.values() for key in each} == {"tool-1", "tool-2", "tool-3"}


def test_what_can_do_without_a_deleted_record_is_a_row_without_it(store: Backend, load: Load, tmp_path: Path) -> None:
    load(
        store,
        Made().set("users", "pupil-2", orgSourcedIds="org-2,org-3").set("users", "teacher-1", orgSourcedIds="org-3"),
    )
    shrunk = Made().only("orgs", "academicSessions").drop("orgs", "org-3").drop("academicSessions", "period-1")
    load(store, shrunk)
    done = exported(store, tmp_path / "all.zip")
    assert done.left_out == {"users": 1, "classes": 1, "enrollments": 1}
    users = {line[0]: line[4] for line in table(tmp_path / "all.zip", "users")}
    assert users["pupil-2"] == "org-2"
    assert "teacher-1" not in users
    assert table(tmp_path / "all.zip", "lineItems")[1][9] == ""
    same_again(store, load, tmp_path)


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
def test_extensions_of_every_kind_give_the_same_files(
    metadata: dict[str, Any], store: Backend, load: Load, tmp_path: Path
) -> None:
    load(store, Made())
    put(store, "categories", "cat-2", {"title": " x ", "metadata": metadata})
    assert "cat-2" in objects(store, "categories")
    same_again(store, load, tmp_path)


@pytest.mark.parametrize("score", [1e300, -0.0, 1e-7, 2**60, 0.1, "12.50", 1.7976931348623157e308, 5e-324])
def test_every_number_gives_the_same_files(score: Any, store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, Made())
    put(store, "results", "r", RESULT | {"score": score})
    assert "r" in objects(store, "results")
    assert same_again(store, load, tmp_path) == active(store)


def test_an_empty_store_gives_a_package_that_says_so(store: Backend, load: Load, tmp_path: Path) -> None:
    assert same_again(store, load, tmp_path) == active(store)


class History:
    """What nights and lessons do to a store: bulk and delta files that come and go, and a grade tool."""

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
        made = Made()
        for name in ("results", "enrollments", "classResources"):
            made.rows[name] = [each for each in made.rows[name] if self.draw.random() < 0.6]
        made.set("users", "pupil-1", givenName=self.draw.choice(["Ada", "Bo"]))
        self.take(made)

    def some_files(self) -> None:
        """Files that come alone and lose rows which others still name."""
        name, *keys = self.draw.choice(
            [("users", "pupil-2"), ("classes", "class-2"), ("resources", "res-1"), ("academicSessions", "period-1")]
        )
        self.take(Made().only(name).drop(name, *keys) if self.draw.random() < 0.7 else Made().only(name))

    def delta(self) -> None:
        name = self.draw.choice(list(FILES))
        rows = [dict(each) for each in Made().rows[name]]
        self.take(delta(**{name: [each if self.draw.random() < 0.5 else gone(each["sourcedId"]) for each in rows]}))

    def take(self, made: Made) -> None:
        """Import it; as things stand it may be refused, or change nothing."""
        import_package(self.store, "default", made.folder(self.folder / "next"), ImportOptions())

    def grade(self) -> None:
        item, number = f"tool-{self.draw.randrange(3)}", self.draw.randrange(4)
        klass, student = f"class-{self.draw.randrange(1, 3)}", f"pupil-{self.draw.randrange(1, 3)}"
        put(self.store, "lineItems", item, BARE | {"class": {"sourcedId": klass}, "dueDate": WHEN})
        sent = EXEMPT if self.draw.random() < 0.5 else RESULT | {"score": self.draw.random() * 10}
        to = {"lineItem": {"sourcedId": item}, "student": {"sourcedId": student}, "metadata": {"try": number, "x": ""}}
        put(self.store, "results", f"score-{number}", sent | to)

    def ungrade(self) -> None:
        name, key = self.draw.choice([("lineItems", "tool-0"), ("results", "score-1"), ("results", "result-1")])
        with contextlib.suppress(writes.RecordNotFoundError):
            writes.delete(self.store, "default", FILES[name], key, everything, nothing_more)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_a_store_went_through_its_export_is_the_same_again(
    seed: int, store: Backend, load: Load, tmp_path: Path
) -> None:
    load(store, Made())
    history = History(store, tmp_path, random.Random(seed))
    for _ in range(STEPS):
        history.step()
        history.step()
        history.step()
        same_again(store, load, tmp_path)


def test_a_delta_export_carries_the_gradebook_with_its_tombstones_and_its_revived_records(
    store: Backend, load: Load, tmp_path: Path
) -> None:
    load(store, Made())
    put(store, "lineItems", "item-2", BARE)
    put(store, "results", "result-2", EXEMPT)
    with open_store("memory:", COLLECTIONS) as copy:
        exported(store, tmp_path / "all.zip")
        load(copy, tmp_path / "all.zip")
        since = load(store, delta(users=[row("users", "parent-1", givenName="New")])).timestamp
        load(store, delta(results=[gone("result-1")], enrollments=[gone("enr-1")]))
        put(store, "results", "result-3", EXEMPT | {"comment": "excused"})
        writes.delete(store, "default", FILES["results"], "result-2", everything, nothing_more)
        load(store, delta(enrollments=[row("enrollments", "enr-1", role="student")]))
        put(store, "lineItems", "item-2", BARE | {"title": "changed"})
        load(copy, delta(users=[row("users", "parent-1", givenName="New")]))
        done = exported(store, tmp_path / "delta.zip", since=since)
        assert done.rows == {"enrollments": 1, "lineItems": 1, "results": 3}
        load(copy, tmp_path / "delta.zip")
        here, there = bodies(store), bodies(copy)
        assert {n: {k: without_timestamp(b) for k, b in each.items()} for n, each in here.items()} == {
            n: {k: without_timestamp(b) for k, b in each.items()} for n, each in there.items()
        }
