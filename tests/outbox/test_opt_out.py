"""Demographics of a tenant that is opted out: nobody is told of them any more, nor sent what waits."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from flask import Flask

from chalk_flask.outbox import Attempt, Delivery, load_subscriptions
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.opt_out import update_tenant
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.outbox.conftest import changes, events, forget, subscribe, told
from tests.support.histories import load
from tests.support.packages import Made


def change(app: Flask, folder: Path, sex: str, name: str = "Ada") -> None:
    load(app, Made().set("demographics", "pupil-1", sex=sex).set("users", "pupil-1", givenName=name), folder)


def stored(app: Flask) -> bytes:
    """All that the outbox still holds."""
    with services_of(app).store.read("default") as snapshot:
        return b"".join(snapshot.get_many(BODIES, list(snapshot.keys(BODIES))).values())


@pytest.mark.parametrize("mode", ["per_entity", "batched"])
def test_a_tenant_that_is_opted_out_tells_nothing_of_demographics_from_then_on(
    app: Flask, tmp_path: Path, mode: str
) -> None:
    store = services_of(app).store
    subscribe(app, mode=mode, entities=["demographics", "user"])
    update_tenant(store, "default", demographics=False)
    assert not TenantStore(store).get("default").demographics
    change(app, tmp_path, "male")
    assert told(app) == [("user.updated", "pupil-1")]
    with store.read("default") as snapshot:
        [webhook] = load_subscriptions(snapshot)
    assert webhook.entity_types == {"user"}
    assert webhook.withheld == {"demographics"}
    forget(app)
    update_tenant(store, "default", demographics=True)
    change(app, tmp_path, "female", "Bo")
    assert told(app) == [("user.updated", "pupil-1"), ("demographics.updated", "pupil-1")]


def test_a_webhook_of_demographics_alone_is_told_of_nothing_then(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["demographics"])
    update_tenant(services_of(app).store, "default", demographics=False)
    change(app, tmp_path, "male")
    assert told(app) == []


@pytest.mark.parametrize("full", [True, False])
def test_what_waits_loses_its_demographics(app: Flask, tmp_path: Path, full: bool) -> None:
    subscribe(app, entities=["demographics", "user"], full=full)
    subscribe(app, "batched", entities=["demographics", "user"], full=full, mode="batched")
    subscribe(app, "other", full=full, mode="batched")
    change(app, tmp_path, "male")
    before = {name: events(app, name) for name in ("one", "batched", "other")}
    assert ("demographics.updated", "pupil-1") in told(app) + told(app, "batched")
    update_tenant(services_of(app).store, "default", demographics=False)
    assert told(app) == told(app, "batched") == [("user.updated", "pupil-1")]
    assert events(app) == [each for each in before["one"] if "demographics" not in each["event_type"]]
    [event, *_], [former, *_] = events(app, "batched"), before["batched"]
    assert event["event_id"] != former["event_id"], "other bytes are another event"
    assert event["data"]["batch"]["counts"] == former["data"]["batch"]["counts"]
    assert events(app, "other") == before["other"]
    assert b'"demographics"' not in stored(app).replace(b'"demographics":{', b"")


def test_a_batch_of_which_nothing_is_left_is_not_sent(app: Flask, tmp_path: Path) -> None:
    subscribe(app, entities=["demographics"], events=["demographics.updated"], mode="batched")
    change(app, tmp_path, "male")
    assert events(app)[0]["event_type"] == "sync.changes"
    update_tenant(services_of(app).store, "default", demographics=False)
    assert events(app) == []


def test_what_was_sent_cannot_be_sent_again_but_is_remembered(app: Flask, tmp_path: Path) -> None:
    store = services_of(app).store
    subscribe(app, entities=["demographics", "user"], full=True)
    change(app, tmp_path, "male")
    attempt = Attempt("2026-09-01T08:00:00.000Z", 5, 200)
    with store.write("default") as transaction:
        bodies = transaction.get_many(DELIVERIES, list(transaction.keys(DELIVERIES)))
        done = [
            Delivery.from_dict(orjson.loads(body)).with_attempt(attempt, "delivered", None) for body in bodies.values()
        ]
        transaction.put(DELIVERIES, [each.to_record() for each in done])
    update_tenant(store, "default", demographics=False)
    with store.read("default") as snapshot:
        kept = {
            key: Delivery.from_dict(orjson.loads(body))
            for key, body in snapshot.get_many(DELIVERIES, [each.key for each in done]).items()
        }
        assert kept == {each.key: each for each in done}
        with_bodies = snapshot.get_many(BODIES, list(kept))
    assert {kept[key].event_type for key in kept.keys() - with_bodies.keys()} == {"demographics.updated"}
    assert b"demographics.updated" not in stored(app)


def test_opting_touches_no_webhook_that_did_not_name_demographics(app: Flask) -> None:
    subscribe(app)
    store = services_of(app).store
    with store.read("default") as snapshot:
        before = load_subscriptions(snapshot)
    update_tenant(store, "default", demographics=False)
    with store.read("default") as snapshot:
        assert load_subscriptions(snapshot) == before
    assert changes(app) == []
