"""Webhooks in a store, and deliveries for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.audit.events import read_events
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt, Delivery, DeliveryState, enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks import SsrfGuard, WebhookRequest, WebhookStore
from tests.support.clock import FakeClock

URL = "https://tool.example.org/hooks"
CREATED = "2026-09-01T08:00:00.000Z"
LOCAL_GUARD = SsrfGuard(["127.0.0.1"])


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def webhooks(store: Backend, cipher: SecretCipher, clock: FakeClock) -> WebhookStore:
    return WebhookStore(store, cipher, LOCAL_GUARD, clock)


def make_request(**options: Any) -> WebhookRequest:
    return WebhookRequest(**{"url": URL, "root": "/api/oneroster/v1p1", **options})


def create_webhook(webhooks: WebhookStore, tenant: str = "default", **options: Any) -> Subscription:
    return webhooks.create(tenant, make_request(**options)).subscription


def audit_events(store: Backend, tenant: str = "default") -> list[tuple[str, dict[str, Any]]]:
    """Return name and entry of each audit event about webhooks."""
    entries = read_events(store, tenant)
    return [(entry["event"], entry) for entry in entries if entry["event"].startswith("webhook.")]


def queue_deliveries(
    store: Backend,
    webhook: Subscription,
    count: int = 1,
    state: DeliveryState = "pending",
    created: str = CREATED,
) -> list[Delivery]:
    """Store deliveries in that state, with an attempt each unless they are pending."""
    tenant = webhook.tenant
    messages = [
        (webhook.id, build_message("user.created", webhook.id, tenant, created, None, 1, {})) for _ in range(count)
    ]
    with store.write(tenant) as transaction:
        deliveries = list(enqueue(transaction, messages, created, 1_000.0))
        if state != "pending":
            attempt = Attempt(created, 12, 200 if state == "delivered" else 500, None, "well\nmore")
            deliveries = [delivery.with_attempt(attempt, state, None) for delivery in deliveries]
            transaction.put(DELIVERIES, [delivery.to_record() for delivery in deliveries])
    return deliveries


def deliveries_by_key(store: Backend) -> dict[str, Delivery]:
    with store.read("default") as snapshot:
        bodies = snapshot.get_many(DELIVERIES, list(snapshot.keys(DELIVERIES)))
    return {key: Delivery.from_dict(orjson.loads(body)) for key, body in sorted(bodies.items())}


def stored_keys(store: Backend, collection: str, tenant: str = "default") -> list[str]:
    """Return the keys of a collection without internal ones."""
    with store.read(tenant) as snapshot:
        return [key for key in snapshot.keys(collection) if not key.startswith(":")]
