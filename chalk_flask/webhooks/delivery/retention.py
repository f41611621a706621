"""Deletion of finished deliveries and their attempts after the retention period of their tenant."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Final

import orjson

from backends import Backend, Compare, Snapshot, Transaction, batched
from chalk_flask.outbox import Delivery, load_subscriptions
from chalk_flask.outbox.delivery import BODIES, COLLECTION, delivery_days
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks.delivery.retry_policy import DAY_SECONDS

__all__ = ["purge"]

BATCH_SIZE: Final = 500
LOCK_TIMEOUT_SECONDS: Final = 5.0


def purge(store: Backend, tenant: str, now: float, stopping: Event | None = None) -> int:
    """Delete the expired deliveries of a tenant with their bodies; return the number of deleted deliveries.

    A delivery expires at the end of the tenant's retention period, which begins with its creation and again with its
    last attempt. A pending delivery expires only if its webhook is disabled or deleted. `now` is in seconds since the
    epoch. Works in transactions of 500 deliveries, so that other writers wait only briefly, and ends early when
    `stopping` is set. Raises StorageError.
    """
    cutoff = format_epoch_seconds(now - delivery_days(store, tenant) * DAY_SECONDS)
    with store.read(tenant) as snapshot:
        keys = list(_expired_keys(snapshot, cutoff))
    removed = 0
    for batch in batched(keys, BATCH_SIZE):
        if stopping is not None and stopping.is_set():
            break
        with store.write(tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
            removed += _remove(transaction, batch, cutoff)
    return removed


def _expired_keys(snapshot: Snapshot, cutoff: str) -> Iterator[str]:
    old_keys = snapshot.keys(COLLECTION, Compare("time", "<", cutoff))
    enabled = _enabled_webhooks(snapshot)
    for batch in batched(old_keys, BATCH_SIZE):
        yield from _expired_in_batch(snapshot, batch, enabled, cutoff)


def _enabled_webhooks(snapshot: Snapshot) -> set[str]:
    return {subscription.id for subscription in load_subscriptions(snapshot) if subscription.state != "disabled"}


def _expired_in_batch(snapshot: Snapshot, keys: list[str], enabled: set[str], cutoff: str) -> Iterator[str]:
    for key, body in sorted(snapshot.get_many(COLLECTION, keys).items()):
        delivery = Delivery.from_dict(orjson.loads(body))
        pending = delivery.due is not None and delivery.webhook in enabled
        if not pending and all(attempt.time < cutoff for attempt in delivery.attempts):
            yield key


def _remove(transaction: Transaction, keys: list[str], cutoff: str) -> int:
    """Check the keys again before deleting: an operator may have replayed a delivery since."""
    expired = list(_expired_in_batch(transaction, keys, _enabled_webhooks(transaction), cutoff))
    transaction.delete(COLLECTION, expired)
    transaction.delete(BODIES, expired)
    return len(expired)
