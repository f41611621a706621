"""Webhooks in a store, and deliveries for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.audit.events import read_events
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt, Delivery, enqueue
from chalk_flask.outbox.event import Message, build_message
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.admin.store import WebhookRequest, WebhookStore
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard

URL = "https://tool.example.org/hooks"
WHEN = "2026-09-01T08:00:00.000Z"
ALLOWED = SsrfGuard(["127.0.0.1"])


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(tmp_path: Path) -> SecretCipher:
    return SecretCipher(tmp_path / "data")


@pytest.fixture
def webhooks(store: Backend, vault: SecretCipher, clock: Clock) -> WebhookStore:
    return WebhookStore(store, vault, ALLOWED, clock)


def asked(**given: Any) -> WebhookRequest:
    return WebhookRequest(**{"url": URL, "root": "/api/oneroster/v1p1", **given})


def made(webhooks: WebhookStore, tenant: str = "default", **given: Any) -> Subscription:
    return webhooks.create(tenant, asked(**given)).subscription


def told(store: Backend, tenant: str = "default") -> list[tuple[str, dict[str, Any]]]:
    """What the audit of a tenant says of webhooks."""
    entries = read_events(store, tenant)
    return [(each["event"], each) for each in entries if each["event"].startswith("webhook.")]


def event(webhook: Subscription, created: str = WHEN) -> Message:
    return build_message("user.created", webhook.id, webhook.tenant, created, None, 1, {})


def queued(
    store: Backend,
    webhook: Subscription,
    count: int = 1,
    state: str = "pending",
    created: str = "2026-09-01T08:00:00.000Z",
) -> list[Delivery]:
    """Deliveries in that state, with an attempt each unless they are new."""
    messages = [
        (webhook.id, build_message("user.created", webhook.id, "default", created, None, 1, {})) for _ in range(count)
    ]
    with store.write("default") as transaction:
        found = list(enqueue(transaction, messages, created, 1_000.0))
        if state != "pending":
            tried = Attempt(created, 12, 200 if state == "delivered" else 500, None, "well\nmore")
            found = [each.with_attempt(tried, state, None) for each in found]  # type: ignore[arg-type]  # one of the three
            transaction.put(DELIVERIES, [each.to_record() for each in found])
    return found


def deliveries(store: Backend) -> dict[str, Delivery]:
    with store.read("default") as snapshot:
        bodies = snapshot.get_many(DELIVERIES, list(snapshot.keys(DELIVERIES)))
    return {key: Delivery.from_dict(orjson.loads(body)) for key, body in sorted(bodies.items())}


def held(store: Backend, collection: str, tenant: str = "default") -> list[str]:
    with store.read(tenant) as snapshot:
        return [key for key in snapshot.keys(collection) if not key.startswith(":")]
