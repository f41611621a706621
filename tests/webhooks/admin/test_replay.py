"""Replay of finished deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backends import Backend
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks import WebhookError, WebhookStore
from tests.support.clock import FakeClock
from tests.webhooks.conftest import audit_events, create_webhook, deliveries_by_key, queue_deliveries


def test_replay_makes_the_same_event_due_again(webhooks: WebhookStore, store: Backend, clock: FakeClock) -> None:
    webhook = create_webhook(webhooks)
    [old] = queue_deliveries(store, webhook, 1, "delivered", "2026-08-20T08:00:00.000Z")
    [failed] = queue_deliveries(store, webhook, 1, "failed", "2026-08-31T08:00:00.000Z")
    [pending] = queue_deliveries(store, webhook)
    with store.read("default") as snapshot:
        before = snapshot.get_many(BODIES, [failed.key])
    assert webhooks.replay("default", webhook.id, since=datetime(2026, 8, 30, tzinfo=UTC)) == 1
    stored = deliveries_by_key(store)
    assert (stored[failed.key].state, stored[failed.key].due) == ("pending", clock.time())
    assert stored[failed.key].attempts == failed.attempts
    assert stored[failed.key].event_id == failed.event_id
    assert (stored[old.key], stored[pending.key]) == (old, pending)
    with store.read("default") as snapshot:
        assert snapshot.get_many(BODIES, [failed.key]) == before
    assert webhooks.replay("default", webhook.id, event_id=old.event_id) == 1
    assert deliveries_by_key(store)[old.key].state == "pending"
    assert [entry["count"] for event, entry in audit_events(store) if event == "webhook.replayed"] == [1, 1]


def test_replay_rejects_events_outside_the_retention_period(
    webhooks: WebhookStore, store: Backend, clock: FakeClock
) -> None:
    webhook, other = create_webhook(webhooks), create_webhook(webhooks)
    [of_other] = queue_deliveries(store, other, 1, "delivered")
    with pytest.raises(WebhookError, match="30 days"):
        webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=30, seconds=1))
    with pytest.raises(WebhookError, match="30 days"):
        webhooks.replay("default", webhook.id, event_id=of_other.event_id)
    assert webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=30)) == 0


def test_replay_uses_the_retention_period_of_the_tenant(
    webhooks: WebhookStore, store: Backend, clock: FakeClock
) -> None:
    webhook = create_webhook(webhooks)
    TenantStore(store).update("default", delivery_days=60)
    assert webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=59)) == 0
    with pytest.raises(WebhookError, match="60 days"):
        webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=61))
