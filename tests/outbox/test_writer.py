"""Selection of events for each webhook: event types, entities, orgs, excluded fields, full records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.policy import UNRESTRICTED
from chalk_flask.roster.changes import clock
from chalk_flask.roster.gradebook import GradeTool, writes
from chalk_flask.roster.imports import import_package
from tests.conftest import services_of
from tests.outbox.conftest import clear_outbox, count_outbox_records, sent_actions, sent_changes, sent_events, subscribe
from tests.roster.conftest import UNLIMITED
from tests.support.api_client import CHALK, Consumer
from tests.support.histories import load
from tests.support.packages import PackageBuilder

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


def test_no_delivery_is_stored_without_subscribers(app: Flask, tmp_path: Path) -> None:
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)
    put(Consumer(app), "/lineItems/tool-1", lineItem=ITEM)
    assert count_outbox_records(app) == {"deliveries": 0, "outbox": 0}
    subscribe(app, state="disabled")
    subscribe(app, "two", events=["class.deleted"])
    load(app, PackageBuilder(), tmp_path)
    assert count_outbox_records(app) == {"deliveries": 0, "outbox": 0}


def test_paused_webhook_collects_deliveries(app: Flask, tmp_path: Path) -> None:
    subscribe(app, state="paused")
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)
    assert sent_actions(app) == [("user.updated", "pupil-1")]


def test_actions_are_created_updated_deleted_created(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True)
    for title in ("Quiz", "Quizzes", "", "Quiz"):
        package = PackageBuilder()
        package.rows["categories"] += [{"sourcedId": "cat-2", "title": title}] if title else []
        load(app, package, tmp_path)
    kinds = ["created", "updated", "deleted", "created"]
    assert sent_actions(app) == [(f"category.{kind}", "cat-2") for kind in kinds]
    changes = [change for change in sent_changes(app) if change.get("changedFields") != ["dateLastModified"]]
    assert [change.get("changedFields") for change in changes] == [None, ["title"], None, None]
    assert [change["entity"]["status"] for change in changes] == ["active", "active", "tobedeleted", "active"]


def test_full_webhook_gets_the_served_record(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    subscribe(app, "full", full=True)
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada", email="a@example.org"), tmp_path)
    [change] = sent_changes(app)
    assert set(change) == {"entity_type", "action", "sourced_id", "sequence", "changedFields"}
    assert change["changedFields"] == ["email", "givenName"]
    body = Consumer(app).get(f"{CHALK}/users/pupil-1").json
    assert body is not None
    assert sent_changes(app, "full")[-1]["entity"] == body["user"]


def test_unselected_event_types_are_not_sent(app: Flask, tmp_path: Path) -> None:
    subscribe(app, events=["user.updated", "category.deleted"])
    subscribe(app, "end", events=["sync.completed"])
    package = (
        PackageBuilder()
        .set("users", "pupil-1", givenName="Ada")
        .set("orgs", "org-3", name="Other")
        .drop("users", "pupil-2")
    )
    load(app, package, tmp_path)
    assert sent_actions(app) == [("user.updated", "pupil-1")]
    assert [event["event_type"] for event in sent_events(app)] == ["user.updated"]
    [end] = sent_events(app, "end")
    assert (end["event_type"], end["data"]["batch"]["changes"]) == ("sync.completed", [])
    assert end["data"]["batch"]["counts"]["users"]["deleted"] == 1


def test_unselected_entities_are_not_sent(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["org", "category"])
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada").set("orgs", "org-3", name="Other"), tmp_path)
    assert sent_actions(app) == [("org.updated", "org-3")]


def test_demographics_must_be_selected_by_name(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True)
    subscribe(app, "named", entities=["demographics"])
    load(app, PackageBuilder().set("demographics", "pupil-1", sex="male"), tmp_path)
    assert sent_actions(app) == []
    assert sent_actions(app, "named") == [("demographics.updated", "pupil-1")]


def test_excluded_fields_are_not_sent_or_reported(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True, excluded=["user.email", "givenName"])
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada", email="a@example.org"), tmp_path)
    assert sent_actions(app) == []
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Bo", email="b@example.org", phone="1"), tmp_path)
    changes = [change for change in sent_changes(app) if change["changedFields"] == ["phone"]]
    assert len(changes) == 1
    assert changes[0]["entity"]["phone"] == "1"
    assert not {"email", "givenName"} & set(changes[0]["entity"])


def test_excluded_metadata_is_not_sent_or_reported(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True, excluded=["user.metadata.note", "metadata.a.b"])
    package = PackageBuilder()
    package.extra["users"] = ["metadata.note", "metadata.a.b", "metadata.house"]
    load(app, package.set("users", "pupil-1", **{"metadata.note": "1", "metadata.a.b": "1"}), tmp_path)
    load(app, package.set("users", "pupil-1", **{"metadata.note": "2", "metadata.a.b": "2"}), tmp_path)
    assert sent_actions(app) == []
    load(app, package.set("users", "pupil-1", **{"metadata.house": "red"}), tmp_path)
    assert sent_actions(app) == [("user.updated", "pupil-1")]
    assert sent_changes(app)[-1]["entity"]["metadata"] == {"house": "red"}


def test_org_filter_selects_records_of_the_orgs(app: Flask, tmp_path: Path) -> None:
    subscribe(
        app, orgs=["org-3"], entities=[*("user", "class", "org", "enrollment", "category", "course", "line_item")]
    )
    package = PackageBuilder().set("users", "pupil-1", givenName="Ada").set("classes", "class-2", title="Other")
    package.set("orgs", "org-1", name="Above").set("orgs", "org-2", name="Beside").set(
        "categories", "cat-1", title="Any"
    )
    package.set("enrollments", "enr-1", beginDate="2026-08-18").set("courses", "course-1", title="Sums")
    package.set("lineItems", "item-1", title="Any").set("categories", "cat-1", title="Any")
    load(app, package, tmp_path)
    assert sent_actions(app) == [
        ("org.updated", "org-1"),
        ("course.updated", "course-1"),
        ("class.updated", "class-2"),
        ("category.updated", "cat-1"),
    ]


def test_user_moving_between_orgs_is_created_and_deleted(app: Flask, tmp_path: Path) -> None:
    subscribe(app, "from", orgs=["org-2"], full=True)
    subscribe(app, "to", orgs=["org-3"], full=True)
    subscribe(app, "both", orgs=["org-2", "org-3"])
    moved = PackageBuilder().set("users", "pupil-2", orgSourcedIds="org-3")
    load(app, moved, tmp_path)
    assert sent_actions(app, "from") == [("user.deleted", "pupil-2")]
    assert "entity" not in sent_changes(app, "from")[0], "the new state of the record in another org is not sent"
    assert sent_actions(app, "to") == [("user.created", "pupil-2")]
    assert sent_changes(app, "to")[0]["entity"]["orgs"][0]["sourcedId"] == "org-3"
    assert sent_actions(app, "both") == [("user.updated", "pupil-2")]


def test_enrollment_ending_with_a_move_is_deleted(app: Flask, tmp_path: Path) -> None:
    subscribe(app, "from", orgs=["org-2"], entities=["enrollment", "user"])
    moved = PackageBuilder().set("users", "pupil-1", orgSourcedIds="org-3")
    moved.set("enrollments", "enr-1", classSourcedId="class-2", schoolSourcedId="org-3")
    subscribe(app, "to", orgs=["org-3"], entities=["enrollment", "user"])
    load(app, moved, tmp_path)
    assert sent_actions(app, "from") == [("user.deleted", "pupil-1"), ("enrollment.deleted", "enr-1")]
    assert sent_actions(app, "to") == [("user.created", "pupil-1"), ("enrollment.created", "enr-1")]
    clear_outbox(app)
    load(app, moved.drop("enrollments", "enr-1").set("users", "pupil-1", orgSourcedIds="org-2"), tmp_path)
    assert sent_actions(app, "to") == [("user.deleted", "pupil-1"), ("enrollment.deleted", "enr-1")]


@pytest.mark.every_backend
def test_gradebook_writes_are_sent(app: Flask) -> None:
    subscribe(app)
    subscribe(app, "batched", mode="batched")
    consumer = Consumer(app)
    put(consumer, "/lineItems/tool-1", lineItem=ITEM)
    put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "title": "Sheet 3"})
    put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "title": "Sheet 3"})
    assert consumer.get(f"{CHALK}/lineItems/item-1", method="DELETE").status_code == 204
    expected = [
        ("line_item.created", "tool-1"),
        ("line_item.updated", "tool-1"),
        ("line_item.deleted", "item-1"),
        ("result.deleted", "result-1"),
    ]
    assert sent_actions(app) == sent_actions(app, "batched") == expected
    assert [event["event_type"] for event in sent_events(app)] == [kind for kind, _ in expected]
    assert [event["event_type"] for event in sent_events(app, "batched")] == ["sync.changes"] * 3, "one for each write"
    assert {event["sync_run_id"] for event in sent_events(app)} == {None}


def test_rejected_or_failed_write_stores_no_delivery(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    consumer = Consumer(app)
    assert put(consumer, "/lineItems/tool-1", lineItem={**ITEM, "class": {"sourcedId": "none"}}) == 422
    rejected = PackageBuilder().set("users", "pupil-1", role="wizard").set("users", "pupil-2", givenName="Ada")
    assert load(app, rejected, tmp_path) == "refused"
    store, lost = (
        services_of(app).store,
        PackageBuilder().set("users", "pupil-1", givenName="Ada").folder(tmp_path / "lost"),
    )

    def fail(*_: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        import_package(store, "default", lost, UNLIMITED, on_commit=fail)
    with pytest.raises(OSError, match="gone"):
        writes.delete(store, "default", FILES["results"], "result-1", GradeTool(UNRESTRICTED, "token:test"), fail)
    assert count_outbox_records(app) == {"deliveries": 0, "outbox": 0}


def test_corrected_timestamp_of_a_hidden_change_is_not_sent(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(app)
    assert put(consumer, "/categories/cat-9", category={"title": "Quiz", "metadata": {"secret": 1}}) == 201
    subscribe(app, "full", full=True, excluded=["category.metadata.secret"])
    monkeypatch.setattr(writes, "COMMIT_LEAD_SECONDS", -0.05)  # the commit comes later than the timestamp
    time.sleep(0.2)  # until after the timestamp of the first write
    assert put(consumer, "/categories/cat-9", category={"title": "Quiz", "metadata": {"secret": 2}}) == 200
    assert sent_changes(app, "full") == []
    time.sleep(0.3)
    assert put(consumer, "/categories/cat-9", category={"title": "Exam", "metadata": {"secret": 3}}) == 200
    changed, *restamped = sent_changes(app, "full")
    assert changed["changedFields"] == ["title"]
    assert restamped


def test_new_timestamp_alone_is_sent_to_full_webhooks_only(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe(app)
    subscribe(app, "full", full=True)
    monkeypatch.setattr(writes, "COMMIT_LEAD_SECONDS", -0.05)  # the commit comes later than the timestamp
    consumer = Consumer(app)
    assert put(consumer, "/categories/cat-9", category={"title": "Quiz"}) == 201
    assert [change["action"] for change in sent_changes(app)] == ["created"]
    created, *restamped = sent_changes(app, "full")
    assert created["action"] == "created"
    assert restamped
    assert all(change["changedFields"] == ["dateLastModified"] for change in restamped)
    body = consumer.get(f"{CHALK}/categories/cat-9").json
    assert body is not None
    assert restamped[-1]["entity"] == body["category"]
    assert clock.to_epoch_seconds(restamped[-1]["entity"]["dateLastModified"]) > clock.to_epoch_seconds(
        created["entity"]["dateLastModified"]
    )
