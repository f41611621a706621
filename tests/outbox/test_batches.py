"""Division of changes into deliveries: by import or by record, in order, below the size limit."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask

from backends import Record
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.event import ENTITIES
from chalk_flask.outbox.writer import MAX_MESSAGE_BYTES
from chalk_flask.roster.changes.clock import record_with_timestamp
from chalk_flask.roster.changes.writer import RosterWriter
from tests.conftest import services_of
from tests.outbox.conftest import count_outbox_records, sent_actions, sent_changes, sent_events, subscribe
from tests.support.api_client import CHALK, Consumer
from tests.support.histories import load
from tests.support.packages import PackageBuilder
from tests.support.small_roster import row


def body_sizes(app: Flask) -> list[int]:
    with services_of(app).store.read("default") as snapshot:
        bodies = snapshot.get_many(BODIES, list(snapshot.keys(BODIES)))
    return [len(body) for body in bodies.values()]


def read_feed(app: Flask, since: int = 1) -> list[dict[str, Any]]:
    response = Consumer(app).get(f"{CHALK}/changes?since={since}&include=ids").json
    assert response is not None
    changes: list[dict[str, Any]] = response["changes"]
    return changes


def package_with_more_users(count: int, **cells: str) -> PackageBuilder:
    """Return the small roster with `count` more users."""
    package = PackageBuilder()
    row = package.rows["users"][1]
    package.rows["users"] += [
        {**row, "sourcedId": f"more-{n:05}", "username": f"more-{n}", "userIds": "", **cells} for n in range(count)
    ]
    return package


@pytest.mark.every_backend
def test_batched_mode_sends_changes_and_counts_at_once(app: Flask, tmp_path: Path) -> None:
    subscribe(app, mode="batched")
    package = (
        PackageBuilder()
        .set("users", "pupil-1", givenName="Ada")
        .drop("users", "pupil-2")
        .set("orgs", "org-3", name="Other")
    )
    load(app, package, tmp_path)
    [event] = sent_events(app)
    assert (event["event_type"], event["webhook_id"], event["tenant_id"]) == ("sync.completed", "wh-one", "default")
    assert event["event_id"].startswith("evt-")
    assert event["sync_run_id"]
    assert sent_actions(app) == [("org.updated", "org-3"), ("user.updated", "pupil-1"), ("user.deleted", "pupil-2")]
    counts = event["data"]["batch"]["counts"]
    assert counts["users"] == {"created": 0, "updated": 1, "deleted": 1, "revived": 0, "unchanged": 2}
    assert counts["classes"]["unchanged"] == 2
    assert event["sequence"] == event["data"]["batch"]["changes"][-1]["sequence"]


@pytest.mark.reading("L-09")
@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_counts_omit_what_an_org_filter_restricts(app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(app, mode=mode, orgs=["org-2"])
    subscribe(app, "all", mode=mode)
    load(app, PackageBuilder().drop("users", "pupil-2").set("courses", "course-1", title="Other"), tmp_path)
    all_counts, counts = (sent_events(app, name)[-1]["data"]["batch"]["counts"] for name in ("all", "one"))
    assert {"orgs", "classes", "users", "enrollments", "categories", "lineItems", "results"} <= all_counts.keys()
    without_org = ("academicSessions", "resources", "courses")
    assert counts == {name: all_counts[name] for name in all_counts if name in without_org}
    assert counts["courses"]["updated"] == 1


@pytest.mark.reading("L-06", "L-09")
@pytest.mark.parametrize("entities", [[], ["user", "demographics"]])
def test_counts_contain_demographics_only_for_their_webhooks(app: Flask, tmp_path: Path, entities: list[str]) -> None:
    subscribe(app, entities=entities)
    load(app, PackageBuilder().set("demographics", "pupil-1", sex="male"), tmp_path)
    counts = sent_events(app)[-1]["data"]["batch"]["counts"]
    assert ("demographics" in counts) is bool(entities)
    assert counts["users"]["unchanged"] == 4


@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_unchanged_import_sends_sync_completed(app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(app, mode=mode)
    again = PackageBuilder()
    again.rows["users"].reverse()  # other bytes, so that the checksum does not match
    for package in (PackageBuilder(), again):
        assert load(app, package, tmp_path) == "unchanged"
        event = sent_events(app)[-1]
        assert event["event_type"] == "sync.completed"
        batch = event["data"]["batch"]
        assert (batch["changes"], batch["counts"]["users"]["unchanged"]) == ([], 4)
    assert len({event["sync_run_id"] for event in sent_events(app)}) == len(sent_events(app)) == 2


def test_per_entity_mode_ends_with_sync_completed(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada").set("orgs", "org-3", name="Other"), tmp_path)
    assert [event["event_type"] for event in sent_events(app)] == ["org.updated", "user.updated", "sync.completed"]
    assert len({event["sync_run_id"] for event in sent_events(app)}) == 1
    assert len({event["event_id"] for event in sent_events(app)}) == 3
    first, second, end = sent_events(app)
    assert first["sequence"] < second["sequence"] <= end["sequence"]
    assert first["data"]["single"]["sequence"] == first["sequence"]


@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_first_import_sends_only_sync_completed(empty_app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(empty_app, mode=mode, entities=list(ENTITIES))
    load(empty_app, PackageBuilder(), tmp_path)
    [event] = sent_events(empty_app)
    assert (event["event_type"], event["data"]["batch"]["changes"]) == ("sync.completed", [])
    assert event["data"]["batch"]["counts"]["users"]["created"] == 4


@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_initial_subscription_gets_every_record(empty_app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(empty_app, mode=mode, entities=list(ENTITIES), initial=True, full=True)
    subscribe(empty_app, "end")
    load(empty_app, PackageBuilder(), tmp_path)
    served: dict[tuple[str, str], Any] = {}
    consumer = Consumer(empty_app)
    for entity, collection in ENTITIES.items():
        body = consumer.get(f"{CHALK}/{collection}").json
        assert body is not None
        served |= {(entity, record["sourcedId"]): record for record in body[collection]}
    created = [change for change in sent_changes(empty_app) if change["action"] == "created"]
    assert len(created) == len(served) == 21
    assert {
        (change["entity_type"], change["sourced_id"]): change["entity"] for change in sent_changes(empty_app)
    } == served
    assert {change["sequence"] for change in created} == {1}, "a first import has one sequence number"
    assert [event["event_type"] for event in sent_events(empty_app, "end")] == ["sync.completed"]


def test_large_import_is_split_below_size_limit(app: Flask, tmp_path: Path) -> None:
    subscribe(app, mode="batched", full=True)
    load(app, package_with_more_users(1200, middleName='"é' * 300), tmp_path)
    assert max(body_sizes(app)) <= MAX_MESSAGE_BYTES
    kinds = [event["event_type"] for event in sent_events(app)]
    assert kinds[:3] == ["sync.changes"] * 3
    assert kinds.count("sync.completed") == 1
    assert sent_actions(app) == [("user.created", f"more-{n:05}") for n in range(1200)]
    run = {event["sync_run_id"] for event in sent_events(app) if event["sync_run_id"]}
    assert len(run) == 1
    assert [("counts" in event["data"]["batch"]) for event in sent_events(app)] == [
        kind == "sync.completed" for kind in kinds
    ]
    numbers = [change["sequence"] for change in sent_changes(app)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_oversized_record_is_sent_as_id_only(app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(app, mode=mode, full=True)
    package = package_with_more_users(3)
    package.extra["users"] = [f"metadata.m{n}" for n in range(6)]
    package.set("users", "more-00001", **{f"metadata.m{n}": "x" * 100_000 for n in range(6)})
    load(app, package, tmp_path)
    created = {change["sourced_id"]: change for change in sent_changes(app) if change["action"] == "created"}
    assert ["entity" in created[f"more-0000{n}"] for n in range(3)] == [True, False, True]
    assert max(body_sizes(app)) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("mode", ["batched", "per_entity"])
def test_changes_of_hundreds_of_kilobytes_never_exceed_the_limit(app: Flask, tmp_path: Path, mode: str) -> None:
    subscribe(app, mode=mode, full=True)
    package = package_with_more_users(12)
    package.extra["users"] = [f"metadata.m{n}" for n in range(4)]
    for number in range(12):  # 200 to 400 KB each, so that no two or only two fit into a body
        cells = {f"metadata.m{n}": "x" * (50_000 + number * 5_000) for n in range(4)}
        package.set("users", f"more-{number:05}", **cells)
    load(app, package, tmp_path)
    assert max(body_sizes(app)) <= MAX_MESSAGE_BYTES
    created = [change for change in sent_changes(app) if change["action"] == "created"]
    assert [change["sourced_id"] for change in created] == [f"more-{n:05}" for n in range(12)]
    assert all("entity" in change for change in created)


def test_sequence_numbers_are_those_of_the_change_feed(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True, entities=list(ENTITIES))
    subscribe(app, "batched", full=True, entities=list(ENTITIES), mode="batched")
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada").set("orgs", "org-3", name="Other"), tmp_path)
    load(app, PackageBuilder().drop("results", "result-1").set("demographics", "pupil-1", sex="male"), tmp_path)
    singles = {resource_type.singular_name: collection for collection, resource_type in RESOURCES.items()}
    for name in ("one", "batched"):
        numbers = [change["sequence"] for change in sent_changes(app, name)]
        assert numbers == sorted(set(numbers))
        last = {
            (ENTITIES[change["entity_type"]], change["sourced_id"]): change["sequence"]
            for change in sent_changes(app, name)
        }
        numbered = {(singles[entry["entity"]], entry["sourcedId"]): entry for entry in read_feed(app)}
        assert last.keys() == numbered.keys()
        # A late commit gets a new timestamp and number, which are not sent for deleted records.
        assert all(last[place] <= entry["sequence"] for place, entry in numbered.items())
        active = {place for place, entry in numbered.items() if not entry["type"].endswith("deleted")}
        assert {place: last[place] for place in active} == {place: numbered[place]["sequence"] for place in active}


def test_stored_body_is_exact_json(app: Flask, tmp_path: Path) -> None:
    subscribe(app, full=True)
    load(app, PackageBuilder().set("users", "pupil-1", givenName='Zoë \\ "/" \u2028'), tmp_path)
    with services_of(app).store.read("default") as snapshot:
        bodies = snapshot.get_many(BODIES, list(snapshot.keys(BODIES)))
    body = next(body for body in bodies.values() if b"user.updated" in body)
    assert orjson.dumps(orjson.loads(body)) == body
    assert json.loads(body)["data"]["single"]["entity"]["givenName"] == 'Zoë \\ "/" \u2028'
    assert count_outbox_records(app)["outbox"] == count_outbox_records(app)["deliveries"] + 1, (
        "one more record holds the last delivery number"
    )


def write_records(app: Flask, records: list[Record]) -> None:
    """Write resources with their events, as an import does, without holding a second copy of them."""

    def with_timestamp(timestamp: str) -> Iterator[Record]:
        return (record_with_timestamp(one, timestamp) for one in records)

    with services_of(app).store.write("default") as transaction:
        writer = RosterWriter(transaction, "default", 0)
        writer.put("resources", with_timestamp, lambda: [one.key for one in records])
        writer.finish()


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_events_of_large_records_are_not_all_in_memory_at_once(app: Flask) -> None:
    subscribe(app, mode="batched", full=True)
    count, size, resources = 60, 1_000_000, RESOURCES["resources"]
    for letter in "ab":
        rows = [row(f"r-{n}", vendorResourceId="v", title=letter * size) for n in range(count)]
        records = [resources.record(one | {"dateLastModified": NO_TIMESTAMP}) for one in rows]
        tracemalloc.start()
        write_records(app, records)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(sent_events(app)) > 1
    assert peak < count * size
