"""Deliveries of a webhook as the console shows them."""

from __future__ import annotations

import pytest

from backends import Backend
from chalk_flask.webhooks import WebhookStore
from chalk_flask.webhooks.admin.deliveries import find_delivery
from tests.support.storage.sqlite_steps import steps_of
from tests.webhooks.conftest import create_webhook, queue_deliveries


@pytest.mark.on_backend("sqlite")
def test_delivery_is_found_without_reading_others(webhooks: WebhookStore, store: Backend) -> None:
    webhook, other = create_webhook(webhooks), create_webhook(webhooks, url="https://tool.example.org/other")
    queued = queue_deliveries(store, webhook, 1_000)
    with store.read(webhook.tenant) as snapshot:
        steps = steps_of(snapshot)
        for delivery in (queued[0], queued[-1]):
            found = find_delivery(snapshot, webhook.id, delivery.event_id)
            assert found is not None
            assert found[0] == delivery
        assert sum(steps) < 1_000
        assert find_delivery(snapshot, other.id, queued[0].event_id) is None
