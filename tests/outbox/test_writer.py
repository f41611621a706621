"""Who is told of what: events, entities, orgs and excluded fields, thin and full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from backends import MATCH_ALL
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import clock
from chalk_flask.roster.gradebook import writes
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from tests.conftest import services_of
from tests.outbox.conftest import changes, events, forget, left, subscribe, told
from tests.support.api_client import CHALK, Consumer
from tests.support.histories import load
from tests.support.packages import Made

ITEM = {
    "title": "Sheet 2",
    "assignDate": "2026-09-01T10:00:00.000Z",
    "dueDate": "2026-09-01T10:00:00.000Z",
    "class": {"sourcedId": "class-1"},
    "category": {"sourcedId": "cat-1"},
    "gradingPeriod": {"sourcedId": "period-1"},
    "resultValueMin": 0,
    "resultValueMax": 9,
}


def put(consumer: Consumer, path: str, **body: Any) -> int:
    headers = {"Authorization": f"Bearer {consumer.token}"}
    return consumer.client.put(f"{CHALK}{path}", json=body, headers=headers).status_code


def test_nothing_is_written_where_nobody_listens(app: Flask, tmp_path: Path) -> None:
    load(app, Made().set("users", "pupil-1", givenName="Ada"), tmp_path)
    put(Consumer(app), "/lineItems/tool-1", lineItem=ITEM)
    assert left(app) == {"deliveries": 0, "outbox": 0}
    subscribe(app, state="disabled")
    subscribe(app, "two", events=["class.deleted"])
    load(app, Made(), tmp_path)
    assert left(app) == {"deliveries": 0, "outbox": 0}


def test_what_is_paused_is_told_all_the_same(app: Flask, tmp_path: Path) -> None:
    subscribe(app, state="paused")
    load(app, Made().set("users", "pupil-1", givenName="Ada"), tmp_path)
    assert told(app) == [("user.updated", "pupil-1")]


def test_a_record_is_created_updated_deleted_and_revived(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True)
    for title in ("Quiz", "Quizzes", "", "Quiz"):
        made = Made()
        made.rows["categories"] += [{"sourcedId": "cat-2", "title": title}] if title else []
        load(app, made, tmp_path)
    kinds = ["created", "updated", "deleted", "created"]
    assert told(app) == [(f"category.{kind}", "cat-2") for kind in kinds]
    found = [each for each in changes(app) if each.get("changedFields") != ["dateLastModified"]]
    assert [each.get("changedFields") for each in found] == [None, ["title"], None, None]
    assert [each["entity"]["status"] for each in found] == ["active", "active", "tobedeleted", "active"]


def test_thin_is_ids_alone_and_full_is_the_record_as_it_is_served(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    subscribe(app, "full", full=True)
    load(app, Made().set("users", "pupil-1", givenName="Ada", email="a@example.org"), tmp_path)
    [thin] = changes(app)
    assert set(thin) == {"entity_type", "action", "sourced_id", "sequence", "changedFields"}
    assert thin["changedFields"] == ["email", "givenName"]
    answer = Consumer(app).get(f"{CHALK}/users/pupil-1").json
    assert answer is not None
    assert changes(app, "full")[-1]["entity"] == answer["user"]


def test_events_that_were_not_asked_for_are_not_told(app: Flask, tmp_path: Path) -> None:
    subscribe(app, events=["user.updated", "category.deleted"])
    subscribe(app, "end", events=["sync.completed"])
    made = Made().set("users", "pupil-1", givenName="Ada").set("orgs", "org-3", name="Other").drop("users", "pupil-2")
    load(app, made, tmp_path)
    assert told(app) == [("user.updated", "pupil-1")]
    assert [each["event_type"] for each in events(app)] == ["user.updated"]
    [end] = events(app, "end")
    assert (end["event_type"], end["data"]["batch"]["changes"]) == ("sync.completed", [])
    assert end["data"]["batch"]["counts"]["users"]["deleted"] == 1


def test_entities_that_were_not_named_are_not_told(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["org", "category"])
    load(app, Made().set("users", "pupil-1", givenName="Ada").set("orgs", "org-3", name="Other"), tmp_path)
    assert told(app) == [("org.updated", "org-3")]


def test_of_demographics_is_told_who_names_them(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True)
    subscribe(app, "named", entities=["demographics"])
    load(app, Made().set("demographics", "pupil-1", sex="male"), tmp_path)
    assert told(app) == []
    assert told(app, "named") == [("demographics.updated", "pupil-1")]


def test_excluded_fields_are_neither_sent_nor_told_of(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True, excluded=["user.email", "givenName"])
    load(app, Made().set("users", "pupil-1", givenName="Ada", email="a@example.org"), tmp_path)
    assert told(app) == []
    load(app, Made().set("users", "pupil-1", givenName="Bo", email="b@example.org", phone="1"), tmp_path)
    found = [each for each in changes(app) if each["changedFields"] == ["phone"]]
    assert len(found) == 1
    assert found[0]["entity"]["phone"] == "1"
    assert not {"email", "givenName"} & set(found[0]["entity"])


def test_an_excluded_part_of_metadata_is_not_told_of_and_the_others_are(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True, excluded=["user.metadata.note", "metadata.a.b"])
    made = Made()
    made.extra["users"] = ["metadata.note", "metadata.a.b", "metadata.house"]
    load(app, made.set("users", "pupil-1", **{"metadata.note": "1", "metadata.a.b": "1"}), tmp_path)
    load(app, made.set("users", "pupil-1", **{"metadata.note": "2", "metadata.a.b": "2"}), tmp_path)
    assert told(app) == []
    load(app, made.set("users", "pupil-1", **{"metadata.house": "red"}), tmp_path)
    assert told(app) == [("user.updated", "pupil-1")]
    assert changes(app)[-1]["entity"]["metadata"] == {"house": "red"}


def test_a_filter_of_orgs_passes_what_belongs_to_them(app: Flask, tmp_path: Path) -> None:
    subscribe(
        app, orgs=["org-3"], entities=[*("user", "class", "org", "enrollment", "category", "course", "line_item")]
    )
    made = Made().set("users", "pupil-1", givenName="Ada").set("classes", "class-2", title="Other")
    made.set("orgs", "org-1", name="Above").set("orgs", "org-2", name="Beside").set("categories", "cat-1", title="Any")
    made.set("enrollments", "enr-1", beginDate="2026-08-18").set("courses", "course-1", title="Sums")
    load(app, made.set("lineItems", "item-1", title="Any"), tmp_path)
    assert told(app) == [
        ("org.updated", "org-1"),
        ("course.updated", "course-1"),
        ("class.updated", "class-2"),
        ("category.updated", "cat-1"),
    ]


def test_who_moves_to_another_school_is_created_there_and_deleted_here(app: Flask, tmp_path: Path) -> None:
    subscribe(app, "from", orgs=["org-2"], full=True)
    subscribe(app, "to", orgs=["org-3"], full=True)
    subscribe(app, "both", orgs=["org-2", "org-3"])
    moved = Made().set("users", "pupil-2", orgSourcedIds="org-3")
    load(app, moved, tmp_path)
    assert told(app, "from") == [("user.deleted", "pupil-2")]
    assert "entity" not in changes(app, "from")[0], "what a record has become elsewhere is not told here"
    assert told(app, "to") == [("user.created", "pupil-2")]
    assert changes(app, "to")[0]["entity"]["orgs"][0]["sourcedId"] == "org-3"
    assert told(app, "both") == [("user.updated", "pupil-2")]


def test_an_enrollment_that_ends_as_its_user_moves_is_told_as_deleted(app: Flask, tmp_path: Path) -> None:
    subscribe(app, "from", orgs=["org-2"], entities=["enrollment", "user"])
    moved = Made().set("users", "pupil-1", orgSourcedIds="org-3")
    moved.set("enrollments", "enr-1", classSourcedId="class-2", schoolSourcedId="org-3")
    subscribe(app, "to", orgs=["org-3"], entities=["enrollment", "user"])
    load(app, moved, tmp_path)
    assert told(app, "from") == [("user.deleted", "pupil-1"), ("enrollment.deleted", "enr-1")]
    assert told(app, "to") == [("user.created", "pupil-1"), ("enrollment.created", "enr-1")]
    forget(app)
    load(app, moved.drop("enrollments", "enr-1").set("users", "pupil-1", orgSourcedIds="org-2"), tmp_path)
    assert told(app, "to") == [("user.deleted", "pupil-1"), ("enrollment.deleted", "enr-1")]


def test_writes_of_grade_tools_are_told(app: Flask) -> None:
    subscribe(app)
    subscribe(app, "batched", mode="batched")
    consumer = Consumer(app)
    put(consumer, "/lineItems/tool-1", lineItem=ITEM)
    put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "title": "Sheet 3"})
    put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "title": "Sheet 3"})
    assert consumer.get(f"{CHALK}/lineItems/item-1", method="DELETE").status_code == 204
    wanted = [
        ("line_item.created", "tool-1"),
        ("line_item.updated", "tool-1"),
        ("line_item.deleted", "item-1"),
        ("result.deleted", "result-1"),
    ]
    assert told(app) == told(app, "batched") == wanted
    assert [each["event_type"] for each in events(app)] == [kind for kind, _ in wanted]
    assert [each["event_type"] for each in events(app, "batched")] == ["sync.changes"] * 3, "one a write"
    assert {each["sync_run_id"] for each in events(app)} == {None}


def test_a_write_that_is_refused_or_broken_off_leaves_no_delivery(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    consumer = Consumer(app)
    assert put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "class": {"sourcedId": "none"}}) == 422
    refused = Made().set("users", "pupil-1", role="wizard").set("users", "pupil-2", givenName="Ada")
    assert load(app, refused, tmp_path) == "refused"
    store, lost = services_of(app).store, Made().set("users", "pupil-1", givenName="Ada").folder(tmp_path / "lost")

    def fail(*_: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        import_package(store, "default", lost, ImportOptions(), on_commit=fail)
    with pytest.raises(OSError, match="gone"):
        writes.delete(store, "default", FILES["results"], "result-1", lambda _: MATCH_ALL, fail)
    assert left(app) == {"deliveries": 0, "outbox": 0}


def test_a_stamp_that_moves_alone_is_told_only_to_those_who_keep_records(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(app)
    subscribe(app, "full", full=True)
    monkeypatch.setattr(writes, "COMMIT_LEAD_SECONDS", -0.05)  # the commit is later than the stamp
    consumer = Consumer(app)
    assert put(consumer, "/categories/cat-9", category={"title": "Quiz"}) == 201
    assert [each["action"] for each in changes(app)] == ["created"]
    created, *again = changes(app, "full")
    assert created["action"] == "created"
    assert again
    assert all(each["changedFields"] == ["dateLastModified"] for each in again)
    answer = consumer.get(f"{CHALK}/categories/cat-9").json
    assert answer is not None
    assert again[-1]["entity"] == answer["category"]
    assert clock.seconds(again[-1]["entity"]["dateLastModified"]) > clock.seconds(created["entity"]["dateLastModified"])
