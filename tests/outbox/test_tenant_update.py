"""Opt-out of demographics: no new events, and removal from stored deliveries."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from flask import Flask

from chalk_flask.outbox import Attempt, Delivery, load_subscriptions
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.tenant_update import update_tenant
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.outbox.conftest import clear_outbox, sent_actions, sent_changes, sent_events, subscribe
from tests.support.histories import load
from tests.support.packages import PackageBuilder


def import_change(app: Flask, folder: Path, sex: str, name: str = "Ada") -> None:
    load(app, PackageBuilder().set("demographics", "pupil-1", sex=sex).set("users", "pupil-1", givenName=name), folder)


def stored_bodies(app: Flask) -> bytes:
    """Return all stored request bodies, joined."""
    with services_of(app).store.read("default") as snapshot:
        return b"".join(snapshot.get_many(BODIES, list(snapshot.keys(BODIES))).values())


@pytest.mark.parametrize("mode", ["per_entity", "batched"])
def test_opt_out_stops_events_of_demographics(app: Flask, tmp_path: Path, mode: str) -> None:
    store = services_of(app).store
    subscribe(app, mode=mode, entities=["demographics", "user"])
    update_tenant(store, "default", demographics=False)
    assert not TenantStore(store).get("default").demographics
    import_change(app, tmp_path, "male")
    assert sent_actions(app) == [("user.updated", "pupil-1")]
    with store.read("default") as snapshot:
        [webhook] = load_subscriptions(snapshot)
    assert webhook.entity_types == {"user"}
    assert webhook.withheld == {"demographics"}
    clear_outbox(app)
    update_tenant(store, "default", demographics=True)
    import_change(app, tmp_path, "female", "Bo")
    assert sent_actions(app) == [("user.updated", "pupil-1"), ("demographics.updated", "pupil-1")]


def test_opt_out_silences_webhook_of_demographics_only(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["demographics"])
    update_tenant(services_of(app).store, "default", demographics=False)
    import_change(app, tmp_path, "male")
    assert sent_actions(app) == []


@pytest.mark.parametrize("full", [True, False])
def test_opt_out_removes_demographics_from_pending(app: Flask, tmp_path: Path, full: bool) -> None:
    subscribe(app, entities=["demographics", "user"], full=full)
    subscribe(app, "batched", entities=["demographics", "user"], full=full, mode="batched")
    subscribe(app, "other", full=full, mode="batched")
    import_change(app, tmp_path, "male")
    before = {name: sent_events(app, name) for name in ("one", "batched", "other")}
    assert ("demographics.updated", "pupil-1") in sent_actions(app) + sent_actions(app, "batched")
    update_tenant(services_of(app).store, "default", demographics=False)
    assert sent_actions(app) == sent_actions(app, "batched") == [("user.updated", "pupil-1")]
    assert sent_events(app) == [event for event in before["one"] if "demographics" not in event["event_type"]]
    [event, *_], [previous, *_] = sent_events(app, "batched"), before["batched"]
    assert event["event_id"] != previous["event_id"], "a changed body needs a new event id"
    assert event["data"]["batch"]["counts"] == previous["data"]["batch"]["counts"]
    assert sent_events(app, "other") == before["other"]
    assert b'"demographics"' not in stored_bodies(app).replace(b'"demographics":{', b"")


def test_opt_out_deletes_batch_without_other_changes(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["demographics"], events=["demographics.updated"], mode="batched")
    import_change(app, tmp_path, "male")
    assert sent_events(app)[0]["event_type"] == "sync.changes"
    update_tenant(services_of(app).store, "default", demographics=False)
    assert sent_events(app) == []


def test_opt_out_deletes_bodies_of_finished_deliveries(app: Flask, tmp_path: Path) -> None:
    store = services_of(app).store
    subscribe(app, entities=["demographics", "user"], full=True)
    import_change(app, tmp_path, "male")
    attempt = Attempt("2026-09-01T08:00:00.000Z", 5, 200)
    with store.write("default") as transaction:
        bodies = transaction.get_many(DELIVERIES, list(transaction.keys(DELIVERIES)))
        finished = [
            Delivery.from_dict(orjson.loads(body)).with_attempt(attempt, "delivered", None) for body in bodies.values()
        ]
        transaction.put(DELIVERIES, [delivery.to_record() for delivery in finished])
    update_tenant(store, "default", demographics=False)
    with store.read("default") as snapshot:
        remaining = {
            key: Delivery.from_dict(orjson.loads(body))
            for key, body in snapshot.get_many(DELIVERIES, [delivery.key for delivery in finished]).items()
        }
        assert remaining == {delivery.key: delivery for delivery in finished}
        with_bodies = snapshot.get_many(BODIES, list(remaining))
    assert {remaining[key].event_type for key in remaining.keys() - with_bodies.keys()} == {"demographics.updated"}
    assert b"demographics.updated" not in stored_bodies(app)


def test_opt_out_keeps_webhooks_without_demographics(app: Flask) -> None:
    subscribe(app)
    store = services_of(app).store
    with store.read("default") as snapshot:
        before = load_subscriptions(snapshot)
    update_tenant(store, "default", demographics=False)
    with store.read("default") as snapshot:
        assert load_subscriptions(snapshot) == before
    assert sent_changes(app) == []
