"""Webhook events, stored in the transaction of the change that they report.

The records that a transaction writes go into `Outbox`. For each enabled webhook (`Subscription`) it stores events as
deliveries (`Delivery`) in the same transaction. The package `webhooks` sends them.
"""

from __future__ import annotations

from chalk_flask.outbox.delivery import Attempt, Delivery, delivery_days
from chalk_flask.outbox.subscription import EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.outbox.writer import Outbox

__all__ = ["Attempt", "Delivery", "EncryptedSecret", "Outbox", "Subscription", "delivery_days", "load_subscriptions"]
