"""Administration of webhooks. `WebhookStore` creates, lists, pauses, tests, replays and deletes them.

A `WebhookRequest` goes in; a stored subscription and its signing secret come out.
"""

from __future__ import annotations

from chalk_flask.webhooks.admin.deliveries import MAX_COUNTED, DeliveryBody, RecentResults
from chalk_flask.webhooks.admin.store import CreatedWebhook, WebhookStore
from chalk_flask.webhooks.admin.subscription_options import WebhookError, WebhookRequest

__all__ = [
    "MAX_COUNTED",
    "CreatedWebhook",
    "DeliveryBody",
    "RecentResults",
    "WebhookError",
    "WebhookRequest",
    "WebhookStore",
]
