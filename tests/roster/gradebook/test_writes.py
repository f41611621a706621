"""The door for gradebook writes: what is stored, under which stamp, and what imports leave alone, on every backend."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from backends import MATCH_ALL, Backend, Compare, Not, Or, StorageBusyError, Transaction, Where, open_store
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, stamp_of, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.roster.gradebook import writes
from chalk_flask.roster.gradebook.writes import InvalidPayloadError, RecordNotFoundError, WriteResult
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import Load, bodies, moved, objects
from tests.support.packages import Made

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
SENT: dict[str, dict[str, Any]] = {"lineItems": ITEM, "results": RESULT, "categories": {"title": "x"}}
BARE = {name: value for name, value in ITEM.items() if name not in ("category", "gradingPeriod")}


class Stopped(Exception):
    """Something else went wrong."""


def everything(_: str) -> Where:
    return MATCH_ALL


def nothing_more(_: Transaction) -> None:
    pass


def put(store: Backend, name: str, key: str, sent: dict[str, Any], see: writes.Visibility = everything) -> WriteResult:
    return writes.put(store, "default", FILES[name], key, sent, see, nothing_more)


def delete(store: Backend, name: str, key: str, see: writes.Visibility = everything) -> None:
    writes.delete(store, "default", FILES[name], key, see, nothing_more)


def get(store: Backend, name: str, key: str) -> dict[str, Any]:
    return objects(store, name)[key]


def notes(store: Backend) -> set[str]:
    with store.read("default") as snapshot:
        return set(snapshot.keys("origins"))


@pytest.fixture
def taught(store: Backend, load: Load) -> Backend:
    """A store with a roster in it."""
    load(store, Made())
    return store


def test_a_record_is_stored_in_the_bytes_that_an_import_would_write(taught: Backend) -> None:
    before = bodies(taught)
    put(taught, "categories", "cat-2", {"title": "Homework"})
    put(taught, "lineItems", "item-2", {**ITEM, "title": "Sheet 1"})
    put(taught, "results", "result-2", RESULT)
    after = bodies(taught)
    for name, imported, sent in (
        ("categories", "cat-1", "cat-2"),
        ("lineItems", "item-1", "item-2"),
        ("results", "result-1", "result-2"),
    ):
        own = f'"sourcedId":"{imported}","status"'.encode()
        theirs = own.replace(imported.encode(), sent.encode())
        assert without_timestamp(after[name][sent]) == without_timestamp(before[name][imported]).replace(own, theirs)
    assert check_store(taught).problems == []


def test_every_commit_has_a_stamp_above_all_earlier_ones_and_not_before_itself(taught: Backend) -> None:  # W-11
    latest = stamp_of(bodies(taught)["results"]["result-1"])
    for score in range(20):
        stamp = stamp_of(put(taught, "results", "r", {**RESULT, "score": score}).body)
        assert stamp > latest
        assert stamp >= format_instant(time.time() - 0.001)
        assert stamp == get(taught, "results", "r")["dateLastModified"]
        latest = stamp
    delete(taught, "results", "r")
    assert get(taught, "results", "r")["dateLastModified"] > latest


def test_a_commit_that_comes_late_is_stamped_again(taught: Backend) -> None:  # W-11
    def slowly(_: Transaction) -> None:
        time.sleep(0.1)

    done = writes.put(taught, "default", FILES["results"], "r", RESULT, everything, slowly)
    assert stamp_of(done.body) >= format_instant(time.time() - 0.001)
    assert bodies(taught)["results"]["r"] == done.body


def test_what_is_there_already_keeps_its_stamp(taught: Backend) -> None:  # W-11
    first = put(taught, "results", "r", RESULT)
    with taught.read("default") as snapshot:
        revision = snapshot.revision
    assert put(taught, "results", "r", {**RESULT, "comment": ""}) == WriteResult(first.body, False)
    with taught.read("default") as snapshot:
        assert snapshot.revision == revision
    assert put(taught, "results", "r", {**RESULT, "comment": "!"}).body != first.body


def test_what_goes_with_a_record_is_stored_with_it_or_not_at_all(taught: Backend) -> None:
    def failing(_: Transaction) -> None:
        raise Stopped

    before = bodies(taught)
    with pytest.raises(Stopped):
        writes.put(taught, "default", FILES["lineItems"], "i", BARE, everything, failing)
    with pytest.raises(Stopped):
        writes.delete(taught, "default", FILES["lineItems"], "item-1", everything, failing)
    assert bodies(taught) == before
    assert notes(taught) == set()


def test_a_writer_does_not_wait_long_for_another(taught: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "LOCK_TIMEOUT_SECONDS", 0.05)
    refused: list[bool] = []

    def write() -> None:
        try:
            put(taught, "results", "r", RESULT)
        except StorageBusyError:
            refused.append(True)

    with taught.write("default"):
        other = threading.Thread(target=write)
        other.start()
        other.join(10)
    assert refused == [True]


def test_a_line_item_without_a_category_gets_the_default_one_which_is_made_once(taught: Backend) -> None:  # W-07
    for key in ("a", "b"):
        put(taught, "lineItems", key, BARE)
        assert get(taught, "lineItems", key)["category"]["sourcedId"] == "uncategorized"
    assert get(taught, "categories", "uncategorized")["title"] == "Uncategorized"
    assert notes(taught) == {"categories/uncategorized", "lineItems/a", "lineItems/b"}
    for key in ("a", "b"):
        delete(taught, "lineItems", key)
    delete(taught, "categories", "uncategorized")
    put(taught, "lineItems", "c", BARE)
    assert get(taught, "categories", "uncategorized")["status"] == "active"


def test_of_several_default_categories_the_first_that_is_not_another_classs_is_taken(taught: Backend) -> None:  # W-07
    put(taught, "categories", "a", {"title": "Uncategorized", "metadata": {"classId": "class-2"}})
    put(taught, "categories", "c", {"title": "Uncategorized"})
    put(taught, "categories", "b", {"title": "uncategorized", "metadata": {"classId": "class-1"}})
    put(taught, "lineItems", "i", BARE)
    put(taught, "lineItems", "j", {**BARE, "class": {"sourcedId": "class-2"}})
    assert get(taught, "lineItems", "i")["category"]["sourcedId"] == "b"
    assert get(taught, "lineItems", "j")["category"]["sourcedId"] == "a"


def test_the_id_of_the_default_category_may_be_somebody_elses(taught: Backend) -> None:  # W-07
    put(taught, "categories", "uncategorized", {"title": "Ours"})
    put(taught, "lineItems", "i", BARE)
    key = get(taught, "lineItems", "i")["category"]["sourcedId"]
    assert get(taught, "categories", key)["title"] == "Uncategorized"
    assert get(taught, "categories", "uncategorized")["title"] == "Ours"


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
def test_a_missing_grading_period_is_the_shortest_of_the_classs_terms_around_the_due_date(
    store: Backend, load: Load, due: str, period: str | None
) -> None:  # W-07
    package = Made()
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
    put(store, "lineItems", "i", {**BARE, "dueDate": due})
    assert get(store, "lineItems", "i").get("gradingPeriod", {}).get("sourcedId") == period
    assert check_store(store).problems == []


@pytest.mark.parametrize(
    ("name", "sent", "said"),
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
def test_what_cannot_be_kept_is_refused_by_the_name_of_its_member(
    taught: Backend, name: str, sent: dict[str, Any], said: str
) -> None:  # W-03, W-04, W-06
    before = bodies(taught)
    with pytest.raises(InvalidPayloadError, match=said):
        put(taught, name, "x", sent)
    assert bodies(taught) == before


@pytest.mark.parametrize(
    ("sent", "kept"),
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
def test_a_result_is_read_leniently(taught: Backend, sent: dict[str, Any], kept: dict[str, Any]) -> None:
    """A-19, W-03, W-05, W-06"""
    put(taught, "results", "r", {**RESULT, **sent})
    found = get(taught, "results", "r")
    assert {name: found.get(name) for name in kept} == kept
    assert found["dateLastModified"] not in ("yesterday", NO_TIMESTAMP)
    assert check_store(taught).problems == []


def test_a_replacement_is_a_whole(taught: Backend) -> None:
    put(taught, "lineItems", "i", {**ITEM, "description": "long", "metadata": {"a": "b"}})
    assert put(taught, "lineItems", "i", ITEM).created is False
    assert not {"description", "metadata"} & get(taught, "lineItems", "i").keys()


def test_deleted_records_cannot_be_referred_to(taught: Backend, load: Load) -> None:  # W-04
    load(taught, Made().drop("users", "pupil-2"))
    with pytest.raises(InvalidPayloadError, match="student"):
        put(taught, "results", "r", {**RESULT, "student": {"sourcedId": "pupil-2"}})
    delete(taught, "lineItems", "item-1")
    with pytest.raises(InvalidPayloadError, match="lineItem"):
        put(taught, "results", "r", RESULT)


def test_deleting_a_line_item_takes_its_results_along_in_the_same_commit(taught: Backend) -> None:  # W-09
    put(taught, "lineItems", "i", ITEM)
    for number in range(3):
        put(taught, "results", f"r-{number}", {**RESULT, "lineItem": {"sourcedId": "i"}})
    delete(taught, "results", "r-0")
    before = bodies(taught)
    delete(taught, "lineItems", "i")
    assert moved(before, bodies(taught)) == {"i", "r-1", "r-2"}
    gone = [get(taught, "lineItems", "i"), get(taught, "results", "r-1"), get(taught, "results", "r-2")]
    assert {each["status"] for each in gone} == {"tobedeleted"}
    assert len({each["dateLastModified"] for each in gone}) == 1
    assert notes(taught) == set()
    assert check_store(taught).problems == []
    assert put(taught, "lineItems", "i", ITEM).created is True
    assert get(taught, "results", "r-1")["status"] == "tobedeleted"


@pytest.mark.parametrize("name", ["lineItems", "results", "categories"])
def test_what_is_not_there_cannot_be_deleted(taught: Backend, name: str) -> None:  # W-09
    sent = SENT[name]
    with pytest.raises(RecordNotFoundError):
        delete(taught, name, "x")
    with pytest.raises(RecordNotFoundError):
        put(taught, name, "x", {**sent, "status": "tobedeleted"})
    put(taught, name, "x", sent)
    delete(taught, name, "x")
    with pytest.raises(RecordNotFoundError):
        delete(taught, name, "x")


@pytest.mark.parametrize("status", ["tobedeleted", "inactive"])
def test_a_put_that_says_so_deletes(taught: Backend, status: str) -> None:  # W-09
    put(taught, "lineItems", "i", BARE)
    put(taught, "results", "r", {**RESULT, "lineItem": {"sourcedId": "i"}})
    former = get(taught, "lineItems", "i")
    done = put(taught, "lineItems", "i", {**BARE, "title": "Void", "status": status})
    assert done.created is False
    found = get(taught, "lineItems", "i")
    assert {name for name in found if found[name] != former[name]} == {"status", "title", "dateLastModified"}
    assert get(taught, "results", "r")["status"] == "tobedeleted"
    assert notes(taught) == {"categories/uncategorized"}
    assert put(taught, "lineItems", "i", {**BARE, "title": "Void", "status": status}) == done


def test_a_category_in_use_stays(taught: Backend) -> None:  # W-09
    put(taught, "categories", "c", {"title": "Quiz"})
    put(taught, "lineItems", "i", {**ITEM, "category": {"sourcedId": "c"}})
    for attempt in (
        lambda: delete(taught, "categories", "c"),
        lambda: put(taught, "categories", "c", {"title": "Quiz", "status": "tobedeleted"}),
    ):
        with pytest.raises(InvalidPayloadError, match="in use"):
            attempt()
    delete(taught, "lineItems", "i")
    delete(taught, "categories", "c")
    assert get(taught, "categories", "c")["status"] == "tobedeleted"


def test_what_is_out_of_sight_is_neither_referred_to_nor_written_over(taught: Backend) -> None:  # W-08
    hidden = {"classes": "class-1", "users": "pupil-1", "lineItems": "item-1", "results": "result-1"}

    def see(name: str) -> Where:
        return Not(Compare("@key", "=", hidden[name])) if name in hidden else MATCH_ALL

    before = bodies(taught)
    with pytest.raises(InvalidPayloadError, match="class: there is no class with the id 'class-1'"):
        put(taught, "lineItems", "x", ITEM, see)
    with pytest.raises(InvalidPayloadError, match=r"lineItem: .*; student: "):
        put(taught, "results", "x", RESULT, see)
    with pytest.raises(RecordNotFoundError):
        put(taught, "lineItems", "item-1", {**ITEM, "class": {"sourcedId": "class-2"}}, see)
    with pytest.raises(RecordNotFoundError):
        delete(taught, "results", "result-1", see)
    with pytest.raises(RecordNotFoundError):
        put(taught, "results", "result-1", {**RESULT, "status": "tobedeleted"}, lambda _: Or(()))
    with pytest.raises(RecordNotFoundError):
        put(taught, "categories", "new", {"title": "Quiz"}, lambda _: Or(()))
    assert bodies(taught) == before


def test_an_import_leaves_alone_what_grade_tools_wrote(taught: Backend, load: Load) -> None:  # W-10
    put(taught, "lineItems", "i", BARE)
    put(taught, "results", "r", {**RESULT, "lineItem": {"sourcedId": "i"}})
    put(taught, "results", "result-1", {**RESULT, "score": 10})
    before = bodies(taught)
    report = load(taught, Made().set("users", "pupil-2", givenName="Ada").drop("results", "result-1"))
    assert moved(before, bodies(taught)) == {"pupil-2"}
    assert report.total()["deleted"] == 0
    load(taught, Made().only("users"))
    load(taught, Made().set("users", "pupil-2", givenName="Ada").drop("results", "result-1").drop("classes", "class-2"))
    assert moved(before, bodies(taught)) == {"pupil-2", "class-2"}
    assert check_store(taught).problems == []


def test_an_import_takes_over_what_its_own_files_carry(taught: Backend, load: Load) -> None:  # W-10
    put(taught, "results", "r", RESULT)
    put(taught, "results", "s", RESULT)
    package = Made()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "score": "1"})
    load(taught, package)
    assert get(taught, "results", "r")["score"] == 1
    assert notes(taught) == {"results/s"}
    load(taught, Made())
    assert get(taught, "results", "r")["status"] == "tobedeleted"
    assert get(taught, "results", "s")["status"] == "active"


def test_an_import_takes_over_records_that_it_does_not_change(taught: Backend, load: Load) -> None:  # W-10
    put(taught, "results", "result-1", RESULT)
    assert notes(taught) == {"results/result-1"}
    load(taught, Made(), "unchanged")
    assert notes(taught) == set()
    load(taught, Made().drop("results", "result-1"))
    assert get(taught, "results", "result-1")["status"] == "tobedeleted"


def test_a_grade_tool_keeps_a_record_of_an_import_that_it_wrote_just_the_same(taught: Backend, load: Load) -> None:
    """W-10"""
    put(taught, "results", "result-1", RESULT)
    load(taught, Made().drop("results", "result-1"), "unchanged")
    assert get(taught, "results", "result-1")["status"] == "active"


def test_a_trial_takes_nothing_over(taught: Backend, load: Load) -> None:  # W-10
    put(taught, "results", "result-1", RESULT)
    load(taught, Made(), "checked", dry_run=True)
    assert notes(taught) == {"results/result-1"}


@pytest.mark.parametrize("with_items", [True, False])
def test_a_package_may_refer_to_what_grade_tools_wrote(taught: Backend, load: Load, with_items: bool) -> None:  # W-10
    put(taught, "categories", "c", {"title": "Quiz"})
    put(taught, "lineItems", "i", BARE)
    package = Made()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "lineItemSourcedId": "i"})
    if with_items:
        item = {**package.row("lineItems"), "sourcedId": "j", "categorySourcedId": "c"}
        package.rows["lineItems"].append(item)
    else:
        package.only("results")
    load(taught, package)
    assert get(taught, "results", "r")["lineItem"]["sourcedId"] == "i"
    assert get(taught, "lineItems", "i")["status"] == get(taught, "categories", "c")["status"] == "active"
    assert check_store(taught).problems == []


def test_a_package_may_not_refer_to_what_grade_tools_deleted(taught: Backend, load: Load) -> None:  # W-10
    put(taught, "lineItems", "i", BARE)
    delete(taught, "lineItems", "i")
    package = Made()
    package.rows["results"].append({**package.row("results"), "sourcedId": "r", "lineItemSourcedId": "i"})
    assert [each.code for each in load(taught, package, "refused").problems.errors] == ["dangling_reference"]


def test_eight_writers_lose_nothing(tmp_path: Path, load: Load) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        load(store, Made())

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
