"""Administration of webhooks. `WebhookStore` creates, lists, pauses, tests, replays and deletes them.

It stores a `WebhookRequest` as a subscription with a signing secret.
"""

from __future__ import annotations

from chalk_flask.webhooks.admin.deliveries import MAX_COUNTED, DeliveryBody, RecentResults
from chalk_flask.webhooks.admin.history import MAX_EXACT_COUNT, count_waiting
from chalk_flask.webhooks.admin.store import CreatedWebhook, WebhookStore
from chalk_flask.webhooks.admin.subscription_options import WebhookError, WebhookRequest

__all__ = [
    "MAX_COUNTED",
    "MAX_EXACT_COUNT",
    "CreatedWebhook",
    "DeliveryBody",
    "RecentResults",
    "WebhookError",
    "WebhookRequest",
    "WebhookStore",
    "count_waiting",
]
