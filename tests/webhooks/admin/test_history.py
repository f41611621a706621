"""Delivery history of a webhook."""

from __future__ import annotations

import pytest

from backends import Backend
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks import WebhookStore, count_waiting
from chalk_flask.webhooks.admin import history
from chalk_flask.webhooks.admin.history import delivery_history, overview
from tests.webhooks.conftest import create_webhook, queue_deliveries


def test_overview_counts_up_to_its_limit(
    webhooks: WebhookStore, store: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_EXACT_COUNT", 5)
    monkeypatch.setattr(history, "MAX_COMPARED", 2)
    webhook = create_webhook(webhooks)
    queue_deliveries(store, webhook, 5, "failed")
    queue_deliveries(store, webhook, 9, "pending")
    with store.read(webhook.tenant) as snapshot:
        found = overview(snapshot, webhook.id)
        assert found.counts == {"pending": 6, "delivered": 0, "failed": 5}
        assert found.next_due == delivery_history(snapshot, webhook.id).next_due
        assert count_waiting(snapshot, webhook.id) == 6


def test_history_counts_deliveries_and_lists_the_last_attempts(webhooks: WebhookStore, store: Backend) -> None:
    webhook = create_webhook(webhooks)
    queue_deliveries(store, webhook, 2, "failed", "2026-08-30T08:00:00.000Z")
    queue_deliveries(store, webhook, 12, "delivered", "2026-08-31T08:00:00.000Z")
    queue_deliveries(store, webhook, 3)
    shown, history = webhooks.show("default", webhook.id)
    assert shown == webhook
    assert history.counts == {"pending": 3, "delivered": 12, "failed": 2}
    assert history.next_due == format_epoch_seconds(1000.0)
    assert len(history.latest_attempts) == 7, "attempts of the ten latest deliveries, of which three are pending"
    assert {(recent.attempt.status, recent.attempt.answer) for recent in history.latest_attempts} == {
        (200, "well\nmore")
    }


def test_history_lists_attempts_of_a_receiver_that_is_down(webhooks: WebhookStore, store: Backend) -> None:
    webhook = create_webhook(webhooks)
    [oldest, *_] = queue_deliveries(store, webhook, 30)
    failed = oldest.with_attempt(Attempt("t", 1, None, "connection reset"), "pending", 9_000.0)
    with store.write("default") as transaction:
        transaction.put(DELIVERIES, [failed.to_record()])
    _, history = webhooks.show("default", webhook.id)
    assert [recent.attempt.error for recent in history.latest_attempts] == ["connection reset"]
