"""Delivery of queued events. `Worker` reads the outboxes of all tenants and sends the deliveries that are due.

Results go back into the store: the attempts of each delivery, and the state of each webhook.
"""

from __future__ import annotations

from chalk_flask.webhooks.delivery.worker import Worker

__all__ = ["Worker"]
