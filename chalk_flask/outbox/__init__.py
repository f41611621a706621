"""What is to be told of changes: who subscribed, the events, and the deliveries, written with the change itself."""

from __future__ import annotations

from chalk_flask.outbox.delivery import Attempt, Delivery
from chalk_flask.outbox.subscription import EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.outbox.writer import Outbox

__all__ = ["Attempt", "Delivery", "EncryptedSecret", "Outbox", "Subscription", "load_subscriptions"]
