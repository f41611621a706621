"""Removal of old deliveries."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks.delivery.retention import purge
from chalk_flask.webhooks.delivery.retry_policy import DAY_SECONDS
from tests.support.deliveries import TENANT, add_webhook, list_deliveries, queue_events

START = 1_800_000_000.0
NOW = START + 40 * DAY_SECONDS


@pytest.mark.every_backend
def test_purge_removes_expired_deliveries_with_their_bodies(store: Backend, tmp_path: Path) -> None:
    add_webhook(store, tmp_path, "https://tool.example.org/", "wh-1")
    add_webhook(store, tmp_path, "https://tool.example.org/", "wh-2", state="disabled")
    for due in (START, NOW - 29 * DAY_SECONDS):
        queue_events(store, 2, "wh-1", "wh-2", "wh-deleted", due=due)
    with store.write(TENANT) as transaction:
        old = [delivery for delivery in list_deliveries(store) if delivery.webhook == "wh-1"]
        failed = [replace(delivery, state="failed", due=None) for delivery in old[::2]]
        transaction.put(DELIVERIES, [delivery.to_record() for delivery in failed])
    assert purge(store, TENANT, NOW) == 5
    remaining = list_deliveries(store)
    assert [delivery.webhook for delivery in remaining] == ["wh-1", *("wh-1", "wh-2", "wh-deleted") * 2]
    with store.read(TENANT) as snapshot:
        keys = [key for key in snapshot.keys(BODIES) if key != ":state"]
        assert keys == [delivery.key for delivery in remaining]
        assert len(list(snapshot.keys(WEBHOOKS))) == 2
    assert purge(store, TENANT, NOW) == 0
    queue_events(store, 1)
    assert list_deliveries(store)[-1].key > remaining[-1].key, "keys are never used again"


def test_purge_ends_early_when_the_worker_stops(store: Backend) -> None:
    queue_events(store, 1, "wh-deleted", due=START)
    stopping = threading.Event()
    stopping.set()
    assert purge(store, TENANT, NOW, stopping) == 0
    assert len(list_deliveries(store)) == 1


def test_purge_uses_the_retention_of_the_tenant(store: Backend) -> None:
    queue_events(store, 1, "wh-deleted", due=NOW - 10 * DAY_SECONDS)
    assert purge(store, TENANT, NOW) == 0
    TenantStore(store).update(TENANT, delivery_days=9)
    assert purge(store, TENANT, NOW) == 1
