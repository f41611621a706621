"""Deliveries that are to be made at once, or again, or never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

import orjson

from backends import And, Compare, Snapshot, Transaction, Where
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import BODIES, COLLECTION, RETENTION_DAYS, Delivery
from chalk_flask.outbox.event import TEST
from chalk_flask.webhooks.admin.subscription_options import WebhookError

__all__ = ["make_due", "remove_deliveries", "replay"]

BATCH = 500


def make_due(transaction: Transaction, webhook: str, due: float) -> int:
    """Make all that waits for a webhook due; says how many that are."""
    waits = _both(_of(webhook), Compare("state", "=", "pending"))
    return _put(transaction, (each.requeued(due) for each in _deliveries(transaction, waits)))


def replay(transaction: Transaction, webhook: str, now: datetime, since: datetime | None, event_id: str | None) -> int:
    """Make due again what is over, one event or all that were made since a moment; says how many.

    Tests are sent again only by their own ids. Raises WebhookError for what is not kept.
    """
    if event_id is not None:
        where = _both(_of(webhook), Compare("event", "=", event_id))
        if next(iter(transaction.keys(COLLECTION, where)), None) is None:
            raise WebhookError(f"no event {event_id[:80]!r} is kept for this webhook; {_KEPT}")
    else:
        where = _both(_of(webhook), Compare("time", ">=", _since(since, now)))
    over = (
        each.requeued(now.timestamp())
        for each in _deliveries(transaction, where)
        if each.state != "pending" and (event_id is not None or each.event_type != TEST)
    )
    return _put(transaction, _with_bodies(transaction, over))


def remove_deliveries(transaction: Transaction, webhook: str) -> int:
    """Remove all deliveries of a webhook with their bodies; says how many there were."""
    keys = list(transaction.keys(COLLECTION, _of(webhook)))
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        transaction.delete(COLLECTION, batch)
        transaction.delete(BODIES, batch)
    return len(keys)


_KEPT = f"deliveries are kept for {RETENTION_DAYS} days"


def _since(since: datetime | None, now: datetime) -> str:
    if since is None:
        raise ValueError("either a moment or an event is needed")
    if since < now - timedelta(days=RETENTION_DAYS):
        raise WebhookError(
            f"{format_instant(since.timestamp())} is too long ago: {_KEPT}; read everything anew instead"
        )
    return format_instant(since.timestamp())


def _deliveries(snapshot: Snapshot, where: Where) -> Iterator[Delivery]:
    # The keys first: what is written meanwhile must not move what is still to be read.
    keys = iter(list(snapshot.keys(COLLECTION, where)))
    while batch := list(islice(keys, BATCH)):
        for _, body in sorted(snapshot.get_many(COLLECTION, batch).items()):
            yield Delivery.from_dict(orjson.loads(body))


def _with_bodies(snapshot: Snapshot, found: Iterable[Delivery]) -> Iterator[Delivery]:
    """Those of which there still is something to send."""
    waiting = iter(found)
    while batch := list(islice(waiting, BATCH)):
        bodies = snapshot.get_many(BODIES, [each.key for each in batch])
        yield from (each for each in batch if each.key in bodies)


def _put(transaction: Transaction, changed: Iterable[Delivery]) -> int:
    count = 0
    waiting = iter(changed)
    while batch := list(islice(waiting, BATCH)):
        transaction.put(COLLECTION, [each.to_record() for each in batch])
        count += len(batch)
    return count


def _of(webhook: str) -> Where:
    return Compare("webhook", "=", webhook)


def _both(first: Where, second: Where) -> Where:
    return And((first, second))
