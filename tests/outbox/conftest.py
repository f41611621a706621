"""Service with the small roster, webhooks, and reads of the deliveries that are stored for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.outbox import EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION
from tests.conftest import services_of, url_in
from tests.support.histories import load as load_into
from tests.support.packages import PackageBuilder

ROOT = "http://localhost/api/oneroster/v1p1"
WHEN = "2026-09-01T08:00:00.000Z"

Event: TypeAlias = dict[str, Any]


@pytest.fixture
def empty_app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """Service without a roster."""
    app = create_app(storage=url_in(tmp_path / "store", backend))
    yield app
    services_of(app).store.close()


@pytest.fixture
def app(empty_app: Flask, tmp_path: Path) -> Flask:
    """Service with the small roster."""
    assert load_into(empty_app, PackageBuilder(), tmp_path) == "committed"
    return empty_app


def subscribe(app: Flask, name: str = "one", **fields: Any) -> Subscription:
    """Store a webhook and return it. Unlike the default, it gets one delivery for each record."""
    values = {key: frozenset(value) if isinstance(value, (list, set)) else value for key, value in fields.items()}
    defaults: dict[str, Any] = {
        "id": f"wh-{name}",
        "tenant": "default",
        "url": "https://tool.example.org/hooks",
        "created": WHEN,
        "secrets": (EncryptedSecret("sealed"),),
        "root": ROOT,
        "mode": "per_entity",
    }
    subscription = Subscription(**defaults | values)
    with services_of(app).store.write("default") as transaction:
        transaction.put(COLLECTION, [subscription.to_record()])
    return subscription


def sent_events(app: Flask, name: str = "one") -> list[Event]:
    """Return the events stored for a webhook, in order."""
    with services_of(app).store.read("default") as snapshot:
        stored = snapshot.get_many(DELIVERIES, list(snapshot.keys(DELIVERIES)))
        keys = [key for key in sorted(stored) if orjson.loads(stored[key])["webhook"] == f"wh-{name}"]
        bodies = snapshot.get_many(BODIES, keys)
    return [orjson.loads(bodies[key]) for key in keys]


def sent_changes(app: Flask, name: str = "one") -> list[Event]:
    """Return the changes in the events of a webhook, in order, for both modes."""
    changes: list[Event] = []
    for event in sent_events(app, name):
        data = event["data"]
        changes += [data["single"]] if "single" in data else data["batch"]["changes"]
    return changes


def sent_actions(app: Flask, name: str = "one") -> list[tuple[str, str]]:
    """Return event type and id of each change, without changes of the timestamp alone."""
    return [
        (f"{change['entity_type']}.{change['action']}", change["sourced_id"])
        for change in sent_changes(app, name)
        if change.get("changedFields") != ["dateLastModified"]
    ]


def clear_outbox(app: Flask) -> None:
    """Delete all deliveries, as after their retention time."""
    with services_of(app).store.write("default") as transaction:
        keys = list(transaction.keys(DELIVERIES))
        transaction.delete(DELIVERIES, keys)
        transaction.delete(BODIES, keys)


def count_outbox_records(app: Flask) -> dict[str, int]:
    """Return the number of records in each collection of the outbox."""
    with services_of(app).store.read("default") as snapshot:
        assert [webhook.id for webhook in load_subscriptions(snapshot)] == sorted(snapshot.keys(COLLECTION))
        return {name: len(list(snapshot.keys(name))) for name in (DELIVERIES, BODIES)}
