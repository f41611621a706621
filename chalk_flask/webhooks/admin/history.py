"""Delivery history of a webhook, as shown to the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from backends import KEY, OrderBy, Query, Snapshot
from chalk_flask.outbox.delivery import COLLECTION, STATES, Attempt, Delivery, DeliveryState, of_webhook
from chalk_flask.times import format_epoch_seconds

__all__ = [
    "MAX_EXACT_COUNT",
    "DeliveryHistory",
    "DeliveryOverview",
    "RecentAttempt",
    "count_waiting",
    "delivery_history",
    "overview",
]

MAX_ATTEMPTS_SHOWN: Final = 10
MAX_EXACT_COUNT: Final = 10_000
"""Number up to which an overview counts. A webhook can have a delivery for each changed record."""
MAX_COMPARED: Final = 250
"""Deliveries of either end of a long queue that are searched for the next attempt."""


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """Attempt and the event that it sent."""

    event_id: str
    event_type: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DeliveryHistory:
    """Number of deliveries by state, the last attempts (newest first), and the time of the next attempt."""

    counts: Mapping[DeliveryState, int]
    latest_attempts: Sequence[RecentAttempt]
    next_due: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `webhook show --json`."""
        attempts = [
            {"event_id": recent.event_id, "event_type": recent.event_type, **asdict(recent.attempt)}
            for recent in self.latest_attempts
        ]
        return {"deliveries": dict(self.counts), "next_due": self.next_due, "last_attempts": attempts}


@dataclass(frozen=True, slots=True)
class DeliveryOverview:
    """Number of deliveries by state, and the time of the next attempt.

    A number above MAX_EXACT_COUNT means that there are more. `next_due` of such a queue is that of its oldest and
    newest deliveries.
    """

    counts: Mapping[DeliveryState, int]
    next_due: str | None


def overview(snapshot: Snapshot, webhook: str) -> DeliveryOverview:
    """Return the overview of a webhook. Its cost does not grow with the number of deliveries."""
    limit = MAX_EXACT_COUNT + 1
    counts = {
        state: snapshot.find(Query(COLLECTION, of_webhook(webhook, state), limit=0, max_total=limit)).total
        for state in STATES
    }
    if counts["pending"] <= MAX_EXACT_COUNT:
        return DeliveryOverview(counts, _next_due(snapshot, webhook))
    pending = of_webhook(webhook, "pending")
    ends = [
        delivery
        for descending in (False, True)
        for delivery in _find(
            snapshot, Query(COLLECTION, pending, (OrderBy(KEY, descending),), limit=MAX_COMPARED, max_total=0)
        )
    ]
    return DeliveryOverview(counts, _format_due(min(delivery.due or 0.0 for delivery in ends)))


def count_waiting(snapshot: Snapshot, webhook: str) -> int:
    """Return the number of pending deliveries, as in an overview."""
    where = of_webhook(webhook, "pending")
    return snapshot.find(Query(COLLECTION, where, limit=0, max_total=MAX_EXACT_COUNT + 1)).total


def delivery_history(snapshot: Snapshot, webhook: str) -> DeliveryHistory:
    """Return the history of a webhook in the tenant of the snapshot."""
    counts = {state: snapshot.find(Query(COLLECTION, of_webhook(webhook, state), limit=0)).total for state in STATES}
    # While a receiver is down, the oldest pending deliveries have attempts and the latest deliveries have none.
    pending = _find(snapshot, Query(COLLECTION, of_webhook(webhook, "pending"), limit=MAX_ATTEMPTS_SHOWN))
    latest_first = (OrderBy("time", descending=True),)
    latest = _find(snapshot, Query(COLLECTION, of_webhook(webhook), latest_first, limit=MAX_ATTEMPTS_SHOWN))
    deliveries = {delivery.key: delivery for delivery in (*pending, *latest)}.values()
    attempts = [
        RecentAttempt(delivery.event_id, delivery.event_type, attempt)
        for delivery in deliveries
        for attempt in delivery.attempts
    ]
    attempts.sort(key=lambda recent: recent.attempt.time, reverse=True)
    return DeliveryHistory(counts, attempts[:MAX_ATTEMPTS_SHOWN], _next_due(snapshot, webhook))


def _next_due(snapshot: Snapshot, webhook: str) -> str | None:
    query = Query(COLLECTION, of_webhook(webhook, "pending"), (OrderBy("due"),), limit=1, max_total=0)
    deliveries = _find(snapshot, query)
    return _format_due(deliveries[0].due) if deliveries else None


def _format_due(due: float | None) -> str | None:
    return None if due is None else format_epoch_seconds(due)


def _find(snapshot: Snapshot, query: Query) -> list[Delivery]:
    return [Delivery.from_dict(data) for data in orjson.loads(b"[%b]" % snapshot.find(query).body())]
