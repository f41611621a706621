"""What is to be told of changes: who subscribed, the events, and the deliveries, written with the change itself."""

from __future__ import annotations

from chalk_flask.outbox.deliveries import Attempt, Delivery
from chalk_flask.outbox.subscriptions import Sealed, Subscription, subscriptions
from chalk_flask.outbox.writing import Outbox

__all__ = ["Attempt", "Delivery", "Outbox", "Sealed", "Subscription", "subscriptions"]
