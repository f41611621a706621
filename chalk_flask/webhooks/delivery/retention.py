"""What is over is kept for thirty days with all that came of it, and then removed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Event
from typing import Final

import orjson

from backends import Backend, Compare, Snapshot, Transaction
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Delivery, load_subscriptions
from chalk_flask.outbox.delivery import BODIES, COLLECTION, RETENTION_DAYS
from chalk_flask.webhooks.delivery.retry_policy import DAY

__all__ = ["RETENTION_SECONDS", "purge"]

RETENTION_SECONDS: Final = RETENTION_DAYS * DAY
"""Seconds for which a delivery and its attempts are kept."""
BATCH = 500
WAIT = 5.0


def purge(store: Backend, tenant: str, now: float, stopping: Event | None = None) -> int:
    """Remove what is so old of a tenant that nobody needs it, with its bodies; says how many deliveries that were.

    That is what is settled or waits for a webhook that is disabled or gone, created and last tried longer than KEPT
    ago. In transactions of BATCH, so that no other writer waits long, until it is done or `stopping` is set. Raises
    StorageError.
    """
    limit = format_instant(now - RETENTION_SECONDS)
    with store.read(tenant) as snapshot:
        keys = list(_over(snapshot, limit))
    removed = 0
    for start in range(0, len(keys), BATCH):
        if stopping is not None and stopping.is_set():
            break
        with store.write(tenant, wait=WAIT) as transaction:
            removed += _remove(transaction, keys[start : start + BATCH], limit)
    return removed


def _over(snapshot: Snapshot, limit: str) -> Iterator[str]:
    old = snapshot.keys(COLLECTION, Compare("time", "<", limit))
    wanted = {each.id for each in load_subscriptions(snapshot) if each.state != "disabled"}
    while keys := list(islice(old, BATCH)):
        yield from _those_over(snapshot, keys, wanted, limit)


def _those_over(snapshot: Snapshot, keys: list[str], wanted: set[str], limit: str) -> Iterator[str]:
    for key, body in sorted(snapshot.get_many(COLLECTION, keys).items()):
        delivery = Delivery.from_dict(orjson.loads(body))
        waits = delivery.due is not None and delivery.webhook in wanted
        if not waits and all(attempt.time < limit for attempt in delivery.attempts):
            yield key


def _remove(transaction: Transaction, keys: list[str], limit: str) -> int:
    """Look again: one may have been begun anew since."""
    wanted = {each.id for each in load_subscriptions(transaction) if each.state != "disabled"}
    over = list(_those_over(transaction, keys, wanted, limit))
    transaction.delete(COLLECTION, over)
    transaction.delete(BODIES, over)
    return len(over)
