"""Webhooks: delivery of the events of the outbox to the receivers that operators registered.

In: webhooks that an operator creates with `WebhookStore`, and deliveries that imports and gradebook writes queue in the
outbox. Out: signed HTTP requests, which `Worker` sends, and the result of each attempt in the store.
"""

from __future__ import annotations

from chalk_flask.webhooks.admin import (
    MAX_COUNTED,
    MAX_EXACT_COUNT,
    DeliveryBody,
    RecentResults,
    WebhookError,
    WebhookRequest,
    WebhookStore,
    count_waiting,
)
from chalk_flask.webhooks.delivery import Worker
from chalk_flask.webhooks.http import ForbiddenTargetError, SsrfGuard, WebhookClient

__all__ = [
    "MAX_COUNTED",
    "MAX_EXACT_COUNT",
    "DeliveryBody",
    "ForbiddenTargetError",
    "RecentResults",
    "SsrfGuard",
    "WebhookClient",
    "WebhookError",
    "WebhookRequest",
    "WebhookStore",
    "Worker",
    "count_waiting",
]
