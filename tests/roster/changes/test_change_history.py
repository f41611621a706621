"""Change history: what each kind of write stores, and what a reader finds for one record."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import Backend, copy_store, open_store
from chalk_flask.outbox import Subscription
from chalk_flask.roster.changes.history_block import HistoryBlock
from chalk_flask.roster.imports import import_package
from chalk_flask.storage import COLLECTIONS
from tests.roster.changes.conftest import changes_in, differences, history_bodies
from tests.roster.changes.test_clock import SlowStore
from tests.roster.conftest import UNLIMITED, Load, objects
from tests.roster.gradebook.conftest import RESULT, delete, put
from tests.roster.imports.test_purge import age, without_pupil
from tests.support.packages import PackageBuilder, delta_package, package_with_extra_users


def renamed(name: str) -> PackageBuilder:
    return PackageBuilder().set("users", "pupil-1", givenName=name)


@pytest.mark.every_backend
def test_history_has_the_values_before_and_after_each_change(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    reports = [load(store, renamed(name)) for name in ("Ada", "Eva")]
    found = changes_in(store, "users", "pupil-1")
    assert [differences(change) for change in found] == [
        {"givenName": ("Ada", "Eva")},
        {"givenName": ("Pupil-1", "Ada")},
    ]
    assert [(change.outcome, change.cause.run, change.time) for change in found] == [
        ("updated", report.run, report.timestamp) for report in reversed(reports)
    ]
    assert changes_in(store, "users", "pupil-2") == []


def test_first_load_stores_no_history(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    assert history_bodies(store) == []


def test_history_tells_created_deleted_and_revived_records(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, package_with_extra_users([1]))
    load(store, PackageBuilder())
    load(store, package_with_extra_users([1], given_name="Back"))
    found = changes_in(store, "users", "u-1")
    assert [change.outcome for change in found] == ["revived", "deleted", "created"]
    assert differences(found[0]) == {"status": ("tobedeleted", "active"), "givenName": ("Same", "Back")}
    assert (found[2].before, found[2].after) == (None, None)


def test_records_of_a_new_collection_share_one_block(store: Backend, load: Load) -> None:
    load(store, PackageBuilder().only("orgs"))
    report = load(store, package_with_extra_users(range(250)))
    blocks = [HistoryBlock.from_body(body) for body in history_bodies(store)]
    users = [block for block in blocks if block.collection == "users"]
    assert [(block.last - block.first, block.kind, block.changes) for block in users] == [(253, "created", ())]
    found = changes_in(store, "users", "u-249")
    assert [(change.outcome, change.cause.run) for change in found] == [("created", report.run)]


def test_history_finds_each_of_many_changed_records(store: Backend, load: Load) -> None:
    numbers = range(250)
    load(store, package_with_extra_users(numbers))
    load(store, package_with_extra_users(numbers, given_name="New"))
    for number in numbers:
        (change,) = changes_in(store, "users", f"u-{number}")
        assert differences(change) == {"givenName": ("Same", "New")}
    blocks = [HistoryBlock.from_body(body) for body in history_bodies(store)]
    assert sorted(len(block.changes) for block in blocks) == [50, 100, 100]


def test_history_contains_changes_of_webhook_subscribers(store: Backend, load: Load) -> None:
    url, root = "https://x.example/hook", "https://y.example/ims/oneroster/v1p1"
    subscription = Subscription(id="wh-1", tenant="default", url=url, created="", secrets=(), root=root)
    with store.write("default") as transaction:
        transaction.put("webhooks", [subscription.to_record()])
    load(store, PackageBuilder())
    load(store, renamed("Ada"))
    with store.read("default") as snapshot:
        assert snapshot.exists("deliveries")
    assert [differences(change) for change in changes_in(store, "users", "pupil-1")] == [
        {"givenName": ("Pupil-1", "Ada")}
    ]


@pytest.mark.reading("I-05")
def test_restamped_change_is_one_change_with_the_final_time(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    load(store, renamed("Ada"))
    report = import_package(SlowStore(store, 0.3), "default", renamed("Eva").folder(tmp_path / "p"), UNLIMITED)
    found = changes_in(store, "users", "pupil-1")
    assert [differences(change)["givenName"] for change in found] == [("Ada", "Eva"), ("Pupil-1", "Ada")]
    assert found[0].time == report.timestamp == objects(store, "users")["pupil-1"]["dateLastModified"]
    assert len(history_bodies(store)) == 3, "the second one holds the later timestamp"
    assert changes_in(store, "users", "pupil-1", found[0].number) == found


def test_purge_erases_the_changes_of_a_record_only(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, renamed("Ada").set("users", "pupil-2", givenName="Bob"))
    load(store, without_pupil().set("users", "pupil-2", givenName="Bob"))
    age(store, 91)
    load(store, without_pupil().set("users", "pupil-2", givenName="Bob"))
    while "pupil-1" in objects(store, "users"):
        load(store, without_pupil().set("users", "pupil-2", givenName="Bob"))
    changes = [change for body in history_bodies(store) for change in HistoryBlock.from_body(body).changes]
    assert "pupil-1" not in {change.key for change in changes}
    assert not any(b"Ada" in state for change in changes for state in (change.before, change.after))
    assert [differences(change) for change in changes_in(store, "users", "pupil-2")] == [
        {"givenName": ("Pupil-2", "Bob")}
    ]
    load(store, renamed("Ada").set("users", "pupil-2", givenName="Bob"))
    assert [change.outcome for change in changes_in(store, "users", "pupil-1")] == ["created"]


def test_import_without_history_stores_none(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, renamed("Ada"), keeps_history=False)
    assert history_bodies(store) == []
    load(store, renamed("Eva"))
    assert [differences(change) for change in changes_in(store, "users", "pupil-1")] == [{"givenName": ("Ada", "Eva")}]


@pytest.mark.every_backend
def test_history_names_the_credential_of_a_grade_tool(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    put(store, "results", "result-1", RESULT | {"score": 5})
    put(store, "results", "new", RESULT | {"score": 6})
    delete(store, "lineItems", "item-1")
    first, new, item = (
        changes_in(store, *ids) for ids in (("results", "result-1"), ("results", "new"), ("lineItems", "item-1"))
    )
    assert {change.cause.credential for change in [*first, *new, *item]} == {"token:test"}
    assert [change.outcome for change in first] == ["deleted", "updated"]
    assert differences(first[1])["score"] == (9.25, 5.0)
    assert [change.outcome for change in new] == ["deleted", "created"]
    assert [change.outcome for change in item] == ["deleted"]


def test_number_of_another_record_shows_nothing(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    changed = renamed("Ada").set("demographics", "pupil-1", sex="male")
    load(store, changed)
    (user,), (demographics,) = changes_in(store, "users", "pupil-1"), changes_in(store, "demographics", "pupil-1")
    assert changes_in(store, "users", "pupil-1", demographics.number) == []
    assert changes_in(store, "users", "pupil-2", user.number) == []
    assert changes_in(store, "users", "pupil-1", 10**17) == []


def test_delta_that_changes_a_referring_class_is_in_its_history(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, delta_package(classResources=[{"sourcedId": "kr-2", "status": "tobedeleted"}]))
    (change,) = changes_in(store, "classes", "class-1")
    assert list(differences(change)) == ["resources"]


def test_copy_of_a_store_has_the_history(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, renamed("Ada"))
    with open_store("memory:", COLLECTIONS) as target:
        copy_store(store, target)
        assert changes_in(target, "users", "pupil-1") == changes_in(store, "users", "pupil-1") != []


def test_rejected_import_leaves_the_history(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    load(store, renamed("Ada"))
    before = history_bodies(store)
    load(store, renamed("Eva").set("users", "pupil-2", role="unknown"), "refused")
    assert history_bodies(store) == before
