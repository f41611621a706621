"""Gradebook writes: stored bytes, timestamps, defaults, validation, and protection from imports."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from backends import MATCH_ALL, Backend, Compare, Not, Or, StorageBusyError, Transaction, Where, open_store
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.gradebook import writes
from chalk_flask.roster.gradebook.writes import InvalidPayloadError, RecordNotFoundError, WriteResult
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_epoch_seconds
from tests.roster.conftest import Load, bodies, changed_ids, objects, timestamp_of
from tests.support.packages import PackageBuilder

ITEM = {
    "title": "Sheet 2",
    "assignDate": "2026-09-01",
    "dueDate": "2026-09-08",
    "class": {"sourcedId": "class-1"},
    "category": {"sourcedId": "cat-1"},
    "gradingPeriod": {"sourcedId": "period-1"},
    "resultValueMin": 0,
    "resultValueMax": 10.5,
}
RESULT = {
    "lineItem": {"sourcedId": "item-1"},
    "student": {"sourcedId": "pupil-1"},
    "scoreStatus": "fully graded",
    "score": 9.25,
    "scoreDate": "2026-09-09",
}
PAYLOADS: dict[str, dict[str, Any]] = {"lineItems": ITEM, "results": RESULT, "categories": {"title": "x"}}
ITEM_WITHOUT_DEFAULTS = {name: value for name, value in ITEM.items() if name not in ("category", "gradingPeriod")}


class CallbackError(Exception):
    """Error that the callback of a test raises."""


def all_visible(_: str) -> Where:
    return MATCH_ALL


def no_callback(_: Transaction) -> None:
    pass


def put(
    store: Backend, name: str, key: str, payload: dict[str, Any], visibility: writes.Visibility = all_visible
) -> WriteResult:
    return writes.put(store, "default", FILES[name], key, payload, visibility, no_callback)


def delete(store: Backend, name: str, key: str, visibility: writes.Visibility = all_visible) -> None:
    writes.delete(store, "default", FILES[name], key, visibility, no_callback)


def get(store: Backend, name: str, key: str) -> dict[str, Any]:
    return objects(store, name)[key]


def note_keys(store: Backend) -> set[str]:
    with store.read("default") as snapshot:
        return set(snapshot.keys("origins"))


@pytest.fixture
def roster(store: Backend, load: Load) -> Backend:
    """Store with the small roster."""
    load(store, PackageBuilder())
    return store


@pytest.mark.every_backend
def test_put_stores_same_bytes_as_import(roster: Backend) -> None:
    before = bodies(roster)
    put(roster, "categories", "cat-2", {"title": "Homework"})
    put(roster, "lineItems", "item-2", {**ITEM, "title": "Sheet 1"})
    put(roster, "results", "result-2", RESULT)
    after = bodies(roster)
    for name, imported, sent in (
        ("categories", "cat-1", "cat-2"),
        ("lineItems", "item-1", "item-2"),
        ("results", "result-1", "result-2"),
    ):
        imported_id = f'"sourcedId":"{imported}","status"'.encode()
        sent_id = imported_id.replace(imported.encode(), sent.encode())
        assert without_timestamp(after[name][sent]) == without_timestamp(before[name][imported]).replace(
            imported_id, sent_id
        )
    assert check_store(roster).problems == []


@pytest.mark.reading("W-11")
def test_timestamp_rises_with_each_write_and_follows_commit(roster: Backend) -> None:
    latest = timestamp_of(bodies(roster)["results"]["result-1"])
    for score in range(20):
        stamp = timestamp_of(put(roster, "results", "r", {**RESULT, "score": score}).body)
        assert stamp > latest
        assert stamp >= format_epoch_seconds(time.time() - 0.001)
        assert stamp == get(roster, "results", "r")["dateLastModified"]
        latest = stamp
    delete(roster, "results", "r")
    assert get(roster, "results", "r")["dateLastModified"] > latest


@pytest.mark.every_backend
@pytest.mark.reading("W-11")
def test_late_commit_gets_a_later_timestamp(roster: Backend) -> None:
    def sleep(_: Transaction) -> None:
        time.sleep(0.1)

    result = writes.put(roster, "default", FILES["results"], "r", RESULT, all_visible, sleep)
    assert timestamp_of(result.body) >= format_epoch_seconds(time.time() - 0.001)
    assert bodies(roster)["results"]["r"] == result.body


@pytest.mark.reading("W-11")
def test_put_of_same_content_keeps_timestamp_and_revision(roster: Backend) -> None:
    first = put(roster, "results", "r", RESULT)
    with roster.read("default") as snapshot:
        revision = snapshot.revision
    assert put(roster, "results", "r", {**RESULT, "comment": ""}) == WriteResult(first.body, False)
    with roster.read("default") as snapshot:
        assert snapshot.revision == revision
    assert put(roster, "results", "r", {**RESULT, "comment": "!"}).body != first.body


def test_failing_on_commit_rolls_back_the_write(roster: Backend) -> None:
    def fail(_: Transaction) -> None:
        raise CallbackError

    before = bodies(roster)
    with pytest.raises(CallbackError):
        writes.put(roster, "default", FILES["lineItems"], "i", ITEM_WITHOUT_DEFAULTS, all_visible, fail)
    with pytest.raises(CallbackError):
        writes.delete(roster, "default", FILES["lineItems"], "item-1", all_visible, fail)
    assert bodies(roster) == before
    assert note_keys(roster) == set()


def test_put_raises_storage_busy_after_lock_timeout(roster: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "LOCK_TIMEOUT_SECONDS", 0.05)
    rejected: list[bool] = []

    def write() -> None:
        try:
            put(roster, "results", "r", RESULT)
        except StorageBusyError:
            rejected.append(True)

    with roster.write("default"):
        other = threading.Thread(target=write)
        other.start()
        other.join(10)
    assert rejected == [True]


@pytest.mark.every_backend
@pytest.mark.reading("W-07")
def test_default_category_is_created_once(roster: Backend) -> None:
    for key in ("a", "b"):
        put(roster, "lineItems", key, ITEM_WITHOUT_DEFAULTS)
        assert get(roster, "lineItems", key)["category"]["sourcedId"] == "uncategorized"
    assert get(roster, "categories", "uncategorized")["title"] == "Uncategorized"
    assert note_keys(roster) == {"categories/uncategorized", "lineItems/a", "lineItems/b"}
    for key in ("a", "b"):
        delete(roster, "lineItems", key)
    delete(roster, "categories", "uncategorized")
    put(roster, "lineItems", "c", ITEM_WITHOUT_DEFAULTS)
    assert get(roster, "categories", "uncategorized")["status"] == "active"


@pytest.mark.reading("W-07")
def test_default_category_is_first_not_tied_to_another_class(roster: Backend) -> None:
    put(roster, "categories", "a", {"title": "Uncategorized", "metadata": {"classId": "class-2"}})
    put(roster, "categories", "c", {"title": "Uncategorized"})
    put(roster, "categories", "b", {"title": "uncategorized", "metadata": {"classId": "class-1"}})
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    put(roster, "lineItems", "j", {**ITEM_WITHOUT_DEFAULTS, "class": {"sourcedId": "class-2"}})
    assert get(roster, "lineItems", "i")["category"]["sourcedId"] == "b"
    assert get(roster, "lineItems", "j")["category"]["sourcedId"] == "a"


@pytest.mark.reading("W-07")
def test_default_category_gets_another_id_if_its_id_is_taken(roster: Backend) -> None:
    put(roster, "categories", "uncategorized", {"title": "Ours"})
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    key = get(roster, "lineItems", "i")["category"]["sourcedId"]
    assert get(roster, "categories", key)["title"] == "Uncategorized"
    assert get(roster, "categories", "uncategorized")["title"] == "Ours"


def session(key: str, kind: str, start: str, end: str, parent: str) -> dict[str, str]:
    return {
        "sourcedId": key,
        "title": key,
        "type": kind,
        "startDate": start,
        "endDate": end,
        "parentSourcedId": parent,
        "schoolYear": "2027",
    }


@pytest.mark.reading("W-07")
@pytest.mark.parametrize(
    ("due", "period"),
    [
        ("2026-08-31T23:59:59Z", "p-1"),
        ("2026-09-01", "p-2"),
        ("2026-09-08T01:00:00+02:00", "p-2a"),
        ("2026-09-30T23:00:00-02:00", None),
        ("2026-12-24", None),
        ("2027-03-01", None),
    ],
)
def test_default_grading_period_is_shortest_around_due_date(
    store: Backend, load: Load, due: str, period: str | None
) -> None:
    package = PackageBuilder()
    package.rows["academicSessions"] += [
        session("p-1", "gradingPeriod", "2026-08-17", "2026-09-01", "term-1"),
        session("s-1", "semester", "2026-08-17", "2026-10-01", "term-1"),
        session("p-2", "gradingPeriod", "2026-09-01", "2026-10-01", "s-1"),
        session("p-2b", "gradingPeriod", "2026-09-05", "2026-10-01", "p-2"),
        session("p-2a", "gradingPeriod", "2026-09-05", "2026-09-09", "p-2"),
        session("term-2", "term", "2027-01-01", "2027-06-12", "year-1"),
        session("p-3", "gradingPeriod", "2027-01-01", "2027-06-12", "term-2"),
    ]
    package.drop("academicSessions", "period-1").set("lineItems", "item-1", gradingPeriodSourcedId="p-1")
    load(store, package)
    put(store, "lineItems", "i", {**ITEM_WITHOUT_DEFAULTS, "dueDate": due})
    assert get(store, "lineItems", "i").get("gradingPeriod", {}).get("sourcedId") == period
    assert check_store(store).problems == []


@pytest.mark.reading("W-03", "W-04", "W-06")
@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("lineItems", {**ITEM, "class": {"sourcedId": "nope"}}, "class: there is no class with the id 'nope'"),
        ("lineItems", {**ITEM, "category": {"sourcedId": "class-1"}}, "category: there is no category"),
        ("lineItems", {**ITEM, "gradingPeriod": {"sourcedId": "x"}}, "gradingPeriod: there is no academicSession"),
        ("lineItems", {**ITEM, "class": {"sourcedId": "class-1", "type": "org"}}, "class: 'org' is not the type"),
        ("lineItems", {**ITEM, "class": "class-1"}, "class: 'class-1' is not a reference"),
        ("lineItems", {**ITEM, "class": {}}, "class: None is not text"),
        ("lineItems", {**ITEM, "class": {"sourcedId": 5}}, "class: 5 is not text"),
        ("lineItems", {**ITEM, "resultValueMin": 11}, "resultValueMin: 11 is greater than resultValueMax 10.5"),
        ("lineItems", {**ITEM, "resultValueMax": "many"}, "resultValueMax: 'many' is not a base-10 number"),
        ("lineItems", {**ITEM, "resultValueMax": True}, "resultValueMax: True is not a number"),
        ("lineItems", {**ITEM, "title": ["x"]}, r"title: \['x'\] is not text"),
        ("lineItems", {**ITEM, "title": "", "dueDate": None}, "title is required; dueDate is required"),
        ("lineItems", {**ITEM, "dueDate": "soon"}, "dueDate: 'soon' is neither"),
        ("lineItems", {**ITEM, "status": "gone"}, "status: 'gone' is not one of: active, tobedeleted"),
        ("lineItems", {**ITEM, "metadata": "x"}, "metadata: 'x' is not an object"),
        ("results", {**RESULT, "lineItem": {"sourcedId": "cat-1"}}, "lineItem: there is no lineItem"),
        ("results", {**RESULT, "student": {"sourcedId": "Pupil-1"}}, "student: there is no user"),
        ("results", {**RESULT, "student": {"sourcedId": "pupil-1", "type": "teacher"}}, "student: 'teacher' is not"),
        ("results", {**RESULT, "score": None}, "score is required"),
        ("results", {**RESULT, "score": None, "scoreStatus": "not submitted"}, "score is required"),
        ("results", {**RESULT, "scoreStatus": "graded"}, "scoreStatus: 'graded' is not one of"),
        ("results", {**RESULT, "scoreDate": "2026-02-30"}, "scoreDate: '2026-02-30' is not a day"),
        ("results", {}, "lineItem is required; student is required; scoreStatus is required; scoreDate is required"),
        ("categories", {}, "title is required"),
    ],
)
def test_invalid_payload_is_rejected_with_member_name(
    roster: Backend, name: str, payload: dict[str, Any], message: str
) -> None:
    before = bodies(roster)
    with pytest.raises(InvalidPayloadError, match=message):
        put(roster, name, "x", payload)
    assert bodies(roster) == before


@pytest.mark.reading("A-19", "W-03", "W-05", "W-06")
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"score": 300}, {"score": 300}),
        ({"score": -0.5}, {"score": -0.5}),
        ({"score": "87.50"}, {"score": 87.5}),
        ({"score": 80.0}, {"score": 80}),
        ({"scoreStatus": "exempt"}, {"scoreStatus": "exempt", "score": 9.25}),
        ({"scoreStatus": "exempt", "score": None}, {"scoreStatus": "exempt", "score": None}),
        ({"comment": ""}, {"comment": None}),
        ({"scoreDate": "2026-09-09T22:15:00.000Z"}, {"scoreDate": "2026-09-09"}),
        ({"dateLastModified": "yesterday", "shoeSize": 44}, {"shoeSize": None}),
        ({"student": {"sourcedId": "pupil-1", "type": "student", "href": "x"}}, {}),
        ({"metadata": {"a": {"b": [1, None, {"c": ""}]}}}, {"metadata": {"a": {"b": [1, None, {"c": ""}]}}}),
        ({"metadata": {"href": "/users/x", "\\/": "\\/"}}, {"metadata": {"href": "/users/x", "\\/": "\\/"}}),
        ({"metadata": {}}, {"metadata": None}),
    ],
)
def test_lenient_payload_is_normalized(roster: Backend, members: dict[str, Any], expected: dict[str, Any]) -> None:
    put(roster, "results", "r", {**RESULT, **members})
    record = get(roster, "results", "r")
    assert {name: record.get(name) for name in expected} == expected
    assert record["dateLastModified"] not in ("yesterday", NO_TIMESTAMP)
    assert check_store(roster).problems == []


def test_put_replaces_the_whole_record(roster: Backend) -> None:
    put(roster, "lineItems", "i", {**ITEM, "description": "long", "metadata": {"a": "b"}})
    assert put(roster, "lineItems", "i", ITEM).created is False
    assert not {"description", "metadata"} & get(roster, "lineItems", "i").keys()


@pytest.mark.reading("W-04")
def test_reference_to_deleted_record_is_rejected(roster: Backend, load: Load) -> None:
    load(roster, PackageBuilder().drop("users", "pupil-2"))
    with pytest.raises(InvalidPayloadError, match="student"):
        put(roster, "results", "r", {**RESULT, "student": {"sourcedId": "pupil-2"}})
    delete(roster, "lineItems", "item-1")
    with pytest.raises(InvalidPayloadError, match="lineItem"):
        put(roster, "results", "r", RESULT)


@pytest.mark.every_backend
@pytest.mark.reading("W-09")
def test_delete_of_line_item_deletes_its_results(roster: Backend) -> None:
    put(roster, "lineItems", "i", ITEM)
    for number in range(3):
        put(roster, "results", f"r-{number}", {**RESULT, "lineItem": {"sourcedId": "i"}})
    delete(roster, "results", "r-0")
    before = bodies(roster)
    delete(roster, "lineItems", "i")
    assert changed_ids(before, bodies(roster)) == {"i", "r-1", "r-2"}
    deleted = [get(roster, "lineItems", "i"), get(roster, "results", "r-1"), get(roster, "results", "r-2")]
    assert {each["status"] for each in deleted} == {"tobedeleted"}
    assert len({each["dateLastModified"] for each in deleted}) == 1
    assert note_keys(roster) == set()
    assert check_store(roster).problems == []
    assert put(roster, "lineItems", "i", ITEM).created is True
    assert get(roster, "results", "r-1")["status"] == "tobedeleted"


@pytest.mark.reading("W-09")
@pytest.mark.parametrize("name", ["lineItems", "results", "categories"])
def test_delete_of_unknown_record_raises_not_found(roster: Backend, name: str) -> None:
    payload = PAYLOADS[name]
    with pytest.raises(RecordNotFoundError):
        delete(roster, name, "x")
    with pytest.raises(RecordNotFoundError):
        put(roster, name, "x", {**payload, "status": "tobedeleted"})
    put(roster, name, "x", payload)
    delete(roster, name, "x")
    with pytest.raises(RecordNotFoundError):
        delete(roster, name, "x")


@pytest.mark.reading("W-09")
@pytest.mark.parametrize("status", ["tobedeleted", "inactive"])
def test_put_with_status_tobedeleted_deletes(roster: Backend, status: str) -> None:
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    put(roster, "results", "r", {**RESULT, "lineItem": {"sourcedId": "i"}})
    previous = get(roster, "lineItems", "i")
    result = put(roster, "lineItems", "i", {**ITEM_WITHOUT_DEFAULTS, "title": "Void", "status": status})
    assert result.created is False
    found = get(roster, "lineItems", "i")
    assert {name for name in found if found[name] != previous[name]} == {"status", "title", "dateLastModified"}
    assert get(roster, "results", "r")["status"] == "tobedeleted"
    assert note_keys(roster) == {"categories/uncategorized"}
    assert put(roster, "lineItems", "i", {**ITEM_WITHOUT_DEFAULTS, "title": "Void", "status": status}) == result


@pytest.mark.reading("W-09")
def test_delete_of_category_in_use_is_rejected(roster: Backend) -> None:
    put(roster, "categories", "c", {"title": "Quiz"})
    put(roster, "lineItems", "i", {**ITEM, "category": {"sourcedId": "c"}})
    for attempt in (
        lambda: delete(roster, "categories", "c"),
        lambda: put(roster, "categories", "c", {"title": "Quiz", "status": "tobedeleted"}),
    ):
        with pytest.raises(InvalidPayloadError, match="in use"):
            attempt()
    delete(roster, "lineItems", "i")
    delete(roster, "categories", "c")
    assert get(roster, "categories", "c")["status"] == "tobedeleted"


@pytest.mark.reading("W-08")
def test_invisible_records_are_not_referenced_or_replaced(roster: Backend) -> None:
    hidden = {"classes": "class-1", "users": "pupil-1", "lineItems": "item-1", "results": "result-1"}

    def visible(name: str) -> Where:
        return Not(Compare("@key", "=", hidden[name])) if name in hidden else MATCH_ALL

    before = bodies(roster)
    with pytest.raises(InvalidPayloadError, match="class: there is no class with the id 'class-1'"):
        put(roster, "lineItems", "x", ITEM, visible)
    with pytest.raises(InvalidPayloadError, match=r"lineItem: .*; student: "):
        put(roster, "results", "x", RESULT, visible)
    with pytest.raises(RecordNotFoundError):
        put(roster, "lineItems", "item-1", {**ITEM, "class": {"sourcedId": "class-2"}}, visible)
    with pytest.raises(RecordNotFoundError):
        delete(roster, "results", "result-1", visible)
    with pytest.raises(RecordNotFoundError):
        put(roster, "results", "result-1", {**RESULT, "status": "tobedeleted"}, lambda _: Or(()))
    with pytest.raises(RecordNotFoundError):
        put(roster, "categories", "new", {"title": "Quiz"}, lambda _: Or(()))
    assert bodies(roster) == before


@pytest.mark.reading("W-10")
def test_import_keeps_records_of_grade_tools(roster: Backend, load: Load) -> None:
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    put(roster, "results", "r", {**RESULT, "lineItem": {"sourcedId": "i"}})
    put(roster, "results", "result-1", {**RESULT, "score": 10})
    before = bodies(roster)
    report = load(roster, PackageBuilder().set("users", "pupil-2", givenName="Ada").drop("results", "result-1"))
    assert changed_ids(before, bodies(roster)) == {"pupil-2"}
    assert report.total()["deleted"] == 0
    load(roster, PackageBuilder().only("users"))
    load(
        roster,
        PackageBuilder()
        .set("users", "pupil-2", givenName="Ada")
        .drop("results", "result-1")
        .drop("classes", "class-2"),
    )
    assert changed_ids(before, bodies(roster)) == {"pupil-2", "class-2"}
    assert check_store(roster).problems == []


@pytest.mark.every_backend
@pytest.mark.reading("W-10")
def test_import_takes_over_records_in_its_files(roster: Backend, load: Load) -> None:
    put(roster, "results", "r", RESULT)
    put(roster, "results", "s", RESULT)
    package = PackageBuilder()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "score": "1"})
    load(roster, package)
    assert get(roster, "results", "r")["score"] == 1
    assert note_keys(roster) == {"results/s"}
    load(roster, PackageBuilder())
    assert get(roster, "results", "r")["status"] == "tobedeleted"
    assert get(roster, "results", "s")["status"] == "active"


@pytest.mark.reading("W-10")
def test_import_takes_over_unchanged_records(roster: Backend, load: Load) -> None:
    put(roster, "results", "result-1", RESULT)
    assert note_keys(roster) == {"results/result-1"}
    load(roster, PackageBuilder(), "unchanged")
    assert note_keys(roster) == set()
    load(roster, PackageBuilder().drop("results", "result-1"))
    assert get(roster, "results", "result-1")["status"] == "tobedeleted"


@pytest.mark.reading("W-10")
def test_put_of_same_content_protects_imported_record(roster: Backend, load: Load) -> None:
    put(roster, "results", "result-1", RESULT)
    load(roster, PackageBuilder().drop("results", "result-1"), "unchanged")
    assert get(roster, "results", "result-1")["status"] == "active"


@pytest.mark.reading("W-10")
def test_dry_run_takes_over_no_records(roster: Backend, load: Load) -> None:
    put(roster, "results", "result-1", RESULT)
    load(roster, PackageBuilder(), "checked", dry_run=True)
    assert note_keys(roster) == {"results/result-1"}


@pytest.mark.reading("W-10")
@pytest.mark.parametrize("with_items", [True, False])
def test_package_can_refer_to_records_of_grade_tools(roster: Backend, load: Load, with_items: bool) -> None:
    put(roster, "categories", "c", {"title": "Quiz"})
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    package = PackageBuilder()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "lineItemSourcedId": "i"})
    if with_items:
        item = {**package.row("lineItems"), "sourcedId": "j", "categorySourcedId": "c"}
        package.rows["lineItems"].append(item)
    else:
        package.only("results")
    load(roster, package)
    assert get(roster, "results", "r")["lineItem"]["sourcedId"] == "i"
    assert get(roster, "lineItems", "i")["status"] == get(roster, "categories", "c")["status"] == "active"
    assert check_store(roster).problems == []


@pytest.mark.reading("W-10")
def test_package_cannot_refer_to_deleted_tool_records(roster: Backend, load: Load) -> None:
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    delete(roster, "lineItems", "i")
    package = PackageBuilder()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "lineItemSourcedId": "i"})
    assert [each.code for each in load(roster, package, "refused").problems.errors] == ["dangling_reference"]


@pytest.mark.slow
def test_concurrent_writers_lose_no_write(tmp_path: Path, load: Load) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        load(store, PackageBuilder())

        def write(number: int) -> None:
            for turn in range(10):
                put(store, "results", f"{number}-{turn}", {**RESULT, "score": turn})
                put(store, "results", f"shared-{turn}", {**RESULT, "score": number})

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        found = objects(store, "results")
        assert {key: found[key]["score"] for key in found if key[0].isdigit()} == {
            f"{number}-{turn}": turn for number in range(8) for turn in range(10)
        }
        stamps = [each["dateLastModified"] for each in found.values()]
        assert len(stamps) == len(set(stamps)) == 91
        assert check_store(store).problems == []
