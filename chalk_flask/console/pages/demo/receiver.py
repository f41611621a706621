"""Receiver of webhooks in the demo, so that a webhook can be tried without another program.

It does what a receiver should do: it verifies the signature of each delivery, and rejects all others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flask import Flask, request
from flask.typing import ResponseReturnValue
from standardwebhooks import Webhook, WebhookVerificationError

from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox import Subscription
from chalk_flask.services import Services
from chalk_flask.times import format_timestamp, utc_now
from chalk_flask.webhooks import SsrfGuard, WebhookStore

__all__ = ["RECEIVER_PATH", "DemoReceiver", "ReceivedDelivery", "register_receiver"]

RECEIVER_PATH: Final = "/demo/receiver"
MAX_DELIVERIES: Final = 20
"""Received deliveries that are kept, the newest ones. They are in memory only."""
MAX_BODY_BYTES: Final = 1 << 20
MAX_SHOWN_CHARACTERS: Final = 4000


@dataclass(frozen=True, slots=True)
class ReceivedDelivery:
    """Delivery that the receiver has accepted. `text` is the beginning of its body."""

    tenant: str
    webhook_id: str
    event_id: str
    received: str
    text: str


class DemoReceiver:
    """Receiver of the demo, with its newest deliveries. Thread-safe. `url` is "" until `listen_at`."""

    def __init__(self, services: Services) -> None:
        self.url = ""
        cipher = SecretCipher(Path(services.settings.data).absolute())
        self._webhooks = WebhookStore(services.store, cipher, SsrfGuard())
        self._store = services.store
        self._deliveries: deque[ReceivedDelivery] = deque(maxlen=MAX_DELIVERIES)
        self._lock = threading.Lock()

    def listen_at(self, url: str) -> None:
        """Set the URL of the service, as webhooks reach it from the same machine."""
        self.url = url + RECEIVER_PATH

    def list(self, tenant: str) -> list[ReceivedDelivery]:
        """Return the deliveries of a tenant, newest first."""
        with self._lock:
            return [delivery for delivery in reversed(self._deliveries) if delivery.tenant == tenant]

    def accept(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep a delivery, and return True if the secret of one of the webhooks has signed it."""
        found = self._find(headers.get("x-chalk-webhook-id", ""))
        if found is None or not self._is_signed(found[1], headers, body):
            return False
        tenant, webhook = found
        event_id = headers.get("webhook-id", "")
        text = body.decode(errors="replace")[:MAX_SHOWN_CHARACTERS]
        with self._lock:
            self._deliveries.append(ReceivedDelivery(tenant, webhook.id, event_id, format_timestamp(utc_now()), text))
        return True

    def _find(self, webhook_id: str) -> tuple[str, Subscription] | None:
        """Return the webhook with this id, and its tenant."""
        webhooks = ((tenant, webhook) for tenant in self._store.tenants() for webhook in self._webhooks.list(tenant))
        return next(((tenant, webhook) for tenant, webhook in webhooks if webhook.id == webhook_id), None)

    def _is_signed(self, webhook: Subscription, headers: Mapping[str, str], body: bytes) -> bool:
        return any(_verifies(secret, headers, body) for secret in self._webhooks.secrets(webhook))


def register_receiver(app: Flask, services: Services) -> DemoReceiver:
    """Add a receiver to an application, and return it. The console then has the page of the demo."""
    receiver = DemoReceiver(services)

    def receive() -> ResponseReturnValue:
        request.max_content_length = MAX_BODY_BYTES
        if receiver.accept(_lower_case(request.headers), request.get_data(cache=False)):
            return "Received and verified.\n", 200, {"Content-Type": "text/plain"}
        return "The signature is invalid.\n", 401, {"Content-Type": "text/plain"}

    app.extensions["chalk_demo"] = receiver
    app.add_url_rule(RECEIVER_PATH, "demo_receiver", receive, methods=["POST"], provide_automatic_options=False)
    return receiver


def _lower_case(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _verifies(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True
