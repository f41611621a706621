"""A small roster with subscribers, and what lies in the outbox for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from flask import Flask

from backends import Backend, open_store
from chalk_flask import create_app
from chalk_flask.outbox import EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of, url_in
from tests.support.histories import load as load_into
from tests.support.packages import Made

ROOT = "http://localhost/api/oneroster/v1p1"
WHEN = "2026-09-01T08:00:00.000Z"

Event: TypeAlias = dict[str, Any]


@pytest.fixture
def empty(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """A service without a roster."""
    made = create_app(storage=url_in(tmp_path / "store", backend))
    yield made
    services_of(made).store.close()


@pytest.fixture
def app(empty: Flask, tmp_path: Path) -> Flask:
    """A service with the small roster."""
    assert load_into(empty, Made(), tmp_path) == "committed"
    return empty


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Backend]:
    """A store in memory, where one backend is enough."""
    with open_store("memory:", COLLECTIONS) as store:
        yield store


def subscribe(app: Flask, name: str = "one", **given: Any) -> Subscription:
    """A webhook; what is not given is as by default, but one delivery for each record."""
    kept = {key: frozenset(value) if isinstance(value, (list, set)) else value for key, value in given.items()}
    defaults: dict[str, Any] = {
        "id": f"wh-{name}",
        "tenant": "default",
        "url": "https://tool.example.org/hooks",
        "created": WHEN,
        "secrets": (EncryptedSecret("sealed"),),
        "root": ROOT,
        "mode": "per_entity",
    }
    made = Subscription(**defaults | kept)
    with services_of(app).store.write("default") as transaction:
        transaction.put(COLLECTION, [made.to_record()])
    return made


def events(app: Flask, name: str = "one") -> list[Event]:
    """What is to be sent to a webhook, in order."""
    with services_of(app).store.read("default") as snapshot:
        stored = snapshot.get_many(DELIVERIES, list(snapshot.keys(DELIVERIES)))
        keys = [key for key in sorted(stored) if orjson.loads(stored[key])["webhook"] == f"wh-{name}"]
        bodies = snapshot.get_many(BODIES, keys)
    return [orjson.loads(bodies[key]) for key in keys]


def changes(app: Flask, name: str = "one") -> list[Event]:
    """The changes that a webhook is told, in order, whether they come alone or in batches."""
    found: list[Event] = []
    for event in events(app, name):
        data = event["data"]
        found += [data["single"]] if "single" in data else data["batch"]["changes"]
    return found


def told(app: Flask, name: str = "one") -> list[tuple[str, str]]:
    """The same in short: what happened, and to which record; without stamps that moved alone."""
    return [
        (f"{each['entity_type']}.{each['action']}", each["sourced_id"])
        for each in changes(app, name)
        if each.get("changedFields") != ["dateLastModified"]
    ]


def forget(app: Flask) -> None:
    """Empty the outbox, as if all were delivered long ago."""
    with services_of(app).store.write("default") as transaction:
        keys = list(transaction.keys(DELIVERIES))
        transaction.delete(DELIVERIES, keys)
        transaction.delete(BODIES, keys)


def left(app: Flask) -> dict[str, int]:
    """How many records the collections of the outbox hold."""
    with services_of(app).store.read("default") as snapshot:
        assert [each.id for each in load_subscriptions(snapshot)] == sorted(snapshot.keys(COLLECTION))
        return {name: len(list(snapshot.keys(name))) for name in (DELIVERIES, BODIES)}
