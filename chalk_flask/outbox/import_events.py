"""Webhook events about the outcome of imports, for operators of nightly imports. They contain no records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from backends import Snapshot, Transaction
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import Subscription, load_subscriptions
from chalk_flask.times import format_epoch_seconds

__all__ = ["enqueue_import_event", "subscribers_of"]


def subscribers_of(snapshot: Snapshot, event_type: str) -> Sequence[Subscription]:
    """Return the enabled webhooks of the tenant that select this event by name, and are not limited to orgs."""
    return [
        webhook
        for webhook in load_subscriptions(snapshot)
        if webhook.state != "disabled" and webhook.orgs is None and event_type in webhook.events
    ]


def enqueue_import_event(
    transaction: Transaction,
    tenant: str,
    event_type: str,
    sequence: int,
    details: Mapping[str, Any],
    run: str | None = None,
) -> None:
    """Queue an event for each webhook that selects it, in the transaction of the outcome.

    `details` becomes `data.import`. `sequence` is the last assigned number, and `run` the id of the import run.
    """
    webhooks = subscribers_of(transaction, event_type)
    if webhooks:
        due = time.time()
        created = format_epoch_seconds(due)
        messages = [
            (
                webhook.id,
                build_message(event_type, webhook.id, tenant, created, run, sequence, {"import": dict(details)}),
            )
            for webhook in webhooks
        ]
        enqueue(transaction, messages, created, due)
