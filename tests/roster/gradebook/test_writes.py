"""Gradebook writes: stored bytes, timestamps, deletions, visibility, and protection from imports."""

from __future__ import annotations

import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from backends import Backend, StorageBusyError, Transaction, open_store
from chalk_flask.oneroster.resource_type import without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.policy import policy_for_restrictions
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.roster.gradebook import GradeTool, writes
from chalk_flask.roster.gradebook.writes import InvalidPayloadError, RecordNotFoundError, WriteResult
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_epoch_seconds
from tests.roster.conftest import Load, bodies, changed_ids, objects, timestamp_of
from tests.roster.gradebook.conftest import (
    ITEM,
    ITEM_WITHOUT_DEFAULTS,
    PAYLOADS,
    RESULT,
    all_visible,
    delete,
    get,
    note_keys,
    put,
)
from tests.support.packages import PackageBuilder


def limited_tool(**restrictions: set[str]) -> GradeTool:
    """Return a grade tool with access restrictions."""
    sets = {name: frozenset(values) for name, values in restrictions.items()}
    return GradeTool(policy_for_restrictions(AccessRestrictions(**sets)), "token:limited")


class CallbackError(Exception):
    """Error that the callback of a test raises."""


@pytest.mark.every_backend
def test_put_stores_same_bytes_as_import(roster: Backend) -> None:
    before = bodies(roster)
    put(roster, "categories", "cat-2", {"title": "Homework"})
    put(roster, "lineItems", "item-2", {**ITEM, "title": "Sheet 1"})
    put(roster, "results", "result-2", RESULT)
    after = bodies(roster)
    for name, imported, written in (
        ("categories", "cat-1", "cat-2"),
        ("lineItems", "item-1", "item-2"),
        ("results", "result-1", "result-2"),
    ):
        imported_id = f'"sourcedId":"{imported}","status"'.encode()
        sent_id = imported_id.replace(imported.encode(), written.encode())
        assert without_timestamp(after[name][written]) == without_timestamp(before[name][imported]).replace(
            imported_id, sent_id
        )
    assert check_store(roster).problems == []


@pytest.mark.reading("W-11")
def test_timestamp_rises_with_each_write_and_follows_commit(roster: Backend) -> None:
    latest = timestamp_of(bodies(roster)["results"]["result-1"])
    for score in range(20):
        stamp = timestamp_of(put(roster, "results", "r", {**RESULT, "score": score}).body)
        assert stamp > latest
        assert stamp == get(roster, "results", "r")["dateLastModified"]
        latest = stamp
    delete(roster, "results", "r")
    assert get(roster, "results", "r")["dateLastModified"] > latest


@pytest.mark.every_backend
@pytest.mark.reading("W-11")
def test_late_commit_gets_a_later_timestamp(roster: Backend) -> None:
    committed: list[str] = []

    def sleep(_: Transaction) -> None:
        time.sleep(0.1)
        committed.append(format_epoch_seconds(time.time() - 0.001))

    result = writes.put(roster, "default", FILES["results"], "r", RESULT, all_visible, sleep)
    assert timestamp_of(result.body) > committed[0]
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
        other.join(60)
    assert rejected == [True]


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
    assert {record["status"] for record in deleted} == {"tobedeleted"}
    assert len({record["dateLastModified"] for record in deleted}) == 1
    assert note_keys(roster) == set()
    assert check_store(roster).problems == []
    assert put(roster, "lineItems", "i", ITEM).created is True
    assert get(roster, "results", "r-1")["status"] == "tobedeleted"


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_delete_with_large_results_holds_few_of_them(roster: Backend) -> None:
    count, size = 90, 1_000_000
    put(roster, "lineItems", "i", ITEM)
    template = FILES["results"].normalize(put(roster, "results", "r", {**RESULT, "lineItem": {"sourcedId": "i"}}).body)
    with roster.write("default") as transaction:
        large = ({**template, "sourcedId": f"r-{number}", "comment": "x" * size} for number in range(count))
        transaction.put("results", map(FILES["results"].record, large))
    tracemalloc.start()
    delete(roster, "lineItems", "i")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with roster.read("default") as snapshot:
        deleted = list(snapshot.get_each("results", ["r", *(f"r-{number}" for number in range(count))]))
    assert len(deleted) == count + 1
    assert len({timestamp_of(body) for _, body in deleted}) == 1
    assert not any(FILES["results"].is_active(body) for _, body in deleted)
    assert peak < count * size


@pytest.mark.reading("W-11")
def test_late_delete_gives_all_results_a_later_timestamp(roster: Backend) -> None:
    put(roster, "lineItems", "i", ITEM)
    for number in range(3):
        put(roster, "results", f"r-{number}", {**RESULT, "lineItem": {"sourcedId": "i"}})
    committed: list[str] = []

    def sleep(_: Transaction) -> None:
        time.sleep(0.1)
        committed.append(format_epoch_seconds(time.time() - 0.001))

    writes.delete(roster, "default", FILES["lineItems"], "i", all_visible, sleep)
    deleted = [get(roster, "lineItems", "i"), *(get(roster, "results", f"r-{number}") for number in range(3))]
    [timestamp] = {record["dateLastModified"] for record in deleted}
    assert timestamp > committed[0]
    assert {record["status"] for record in deleted} == {"tobedeleted"}


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
    stored = get(roster, "lineItems", "i")
    assert {name for name in stored if stored[name] != previous[name]} == {"status", "title", "dateLastModified"}
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
        with pytest.raises(InvalidPayloadError, match="line items use the category"):
            attempt()
    delete(roster, "lineItems", "i")
    delete(roster, "categories", "c")
    assert get(roster, "categories", "c")["status"] == "tobedeleted"


@pytest.mark.reading("W-08")
def test_invisible_records_are_not_referenced_or_replaced(roster: Backend) -> None:
    tool, denied = limited_tool(orgs={"org-3"}), limited_tool(denied={"results", "categories"})
    before = bodies(roster)
    with pytest.raises(InvalidPayloadError, match="class: there is no class with the id 'class-1'"):
        put(roster, "lineItems", "x", ITEM, tool)
    with pytest.raises(InvalidPayloadError, match=r"lineItem: .*; student: "):
        put(roster, "results", "x", RESULT, tool)
    with pytest.raises(RecordNotFoundError):
        put(roster, "lineItems", "item-1", {**ITEM, "class": {"sourcedId": "class-2"}}, tool)
    with pytest.raises(RecordNotFoundError):
        delete(roster, "results", "result-1", tool)
    with pytest.raises(RecordNotFoundError):
        put(roster, "results", "result-1", {**RESULT, "status": "tobedeleted"}, denied)
    with pytest.raises(RecordNotFoundError):
        put(roster, "categories", "new", {"title": "Quiz"}, denied)
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
    assert [error.code for error in load(roster, package, "refused").problems.errors] == ["dangling_reference"]


@pytest.mark.slow
def test_concurrent_writers_lose_no_write(tmp_path: Path, load: Load) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        load(store, PackageBuilder())

        def write(number: int) -> None:
            for turn in range(10):
                put_patiently(f"{number}-{turn}", turn)
                put_patiently(f"shared-{turn}", number)

        def put_patiently(key: str, score: int) -> None:
            while True:
                with suppress(StorageBusyError):  # on a busy machine, others may hold the lock for too long
                    put(store, "results", key, {**RESULT, "score": score})
                    return

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        stored = objects(store, "results")
        assert {key: stored[key]["score"] for key in stored if key[0].isdigit()} == {
            f"{number}-{turn}": turn for number in range(8) for turn in range(10)
        }
        stamps = [record["dateLastModified"] for record in stored.values()]
        assert len(stamps) == len(set(stamps)) == 91
        assert check_store(store).problems == []
