"""Changes of stored deliveries: retry now, replay, delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import orjson

from backends import KEY, Compare, In, Snapshot, Transaction, Where, and_, batched
from chalk_flask.outbox.delivery import BODIES, COLLECTION, Delivery, of_webhook
from chalk_flask.outbox.event import TEST
from chalk_flask.times import format_timestamp
from chalk_flask.webhooks.admin.subscription_options import WebhookError

__all__ = ["make_due", "remove_deliveries", "replay", "unknown_event"]

BATCH_SIZE: Final = 500
MAX_QUOTED_LENGTH: Final = 80


def make_due(transaction: Transaction, webhook: str, due: float) -> int:
    """Set all pending deliveries of a webhook to `due` (seconds since the epoch); return their number."""
    pending = _deliveries(transaction, of_webhook(webhook, "pending"))
    return _put(transaction, (delivery.requeued(due) for delivery in pending))


def replay(
    transaction: Transaction,
    webhook: str,
    now: datetime,
    since: datetime | None,
    event_id: str | None,
    retention_days: int,
) -> int:
    """Make finished deliveries due again: one event, or all events created since a time. Return their number.

    Replays the event `webhook.test` only by its id. Raises WebhookError if the event is unknown or `since` is before
    the retention period of `retention_days`, and ValueError without both.
    """
    if event_id is not None:
        where = and_(of_webhook(webhook), Compare("event", "=", event_id))
        if not transaction.exists(COLLECTION, where):
            raise unknown_event(event_id, retention_days)
    else:
        where = and_(of_webhook(webhook), Compare("time", ">=", _check_since(since, now, retention_days)))
    finished = (
        delivery.requeued(now.timestamp())
        for delivery in _deliveries(transaction, where)
        if delivery.state != "pending" and (event_id is not None or delivery.event_type != TEST)
    )
    return _put(transaction, _with_bodies(transaction, finished))


def unknown_event(event_id: str, retention_days: int) -> WebhookError:
    """Return the error for an event that the webhook does not have, or not any more."""
    return WebhookError(f"unknown event {event_id[:MAX_QUOTED_LENGTH]!r} of this webhook; {_retention(retention_days)}")


def remove_deliveries(transaction: Transaction, webhook: str) -> int:
    """Delete all deliveries of a webhook with their bodies; return their number."""
    keys = list(transaction.keys(COLLECTION, of_webhook(webhook)))
    for batch in batched(keys, BATCH_SIZE):
        transaction.delete(COLLECTION, batch)
        transaction.delete(BODIES, batch)
    return len(keys)


def _check_since(since: datetime | None, now: datetime, retention_days: int) -> str:
    if since is None:
        raise ValueError("a time or an event is required")
    if since < now - timedelta(days=retention_days):
        reason = _retention(retention_days)
        raise WebhookError(f"{format_timestamp(since)} is too long ago: {reason}; do a full read instead")
    return format_timestamp(since)


def _retention(days: int) -> str:
    return f"deliveries are deleted after {days} days"


def _deliveries(snapshot: Snapshot, where: Where) -> Iterator[Delivery]:
    # All keys first, because the caller changes deliveries while it iterates.
    for batch in batched(list(snapshot.keys(COLLECTION, where)), BATCH_SIZE):
        for _, body in sorted(snapshot.get_many(COLLECTION, batch).items()):
            yield Delivery.from_dict(orjson.loads(body))


def _with_bodies(snapshot: Snapshot, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
    """Leave out deliveries without a body: an opt-out deleted it."""
    for batch in batched(deliveries, BATCH_SIZE):
        with_body = set(snapshot.keys(BODIES, In(KEY, tuple(delivery.key for delivery in batch))))
        yield from (delivery for delivery in batch if delivery.key in with_body)


def _put(transaction: Transaction, deliveries: Iterable[Delivery]) -> int:
    count = 0
    for batch in batched(deliveries, BATCH_SIZE):
        transaction.put(COLLECTION, [delivery.to_record() for delivery in batch])
        count += len(batch)
    return count
