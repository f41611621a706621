"""Delivery history of a webhook, as shown to the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, get_args

import orjson

from backends import Compare, OrderBy, Query, Snapshot, Where, and_
from chalk_flask.outbox.delivery import COLLECTION, Attempt, Delivery, DeliveryState
from chalk_flask.times import format_epoch_seconds

__all__ = ["DeliveryHistory", "RecentAttempt", "delivery_history"]

MAX_ATTEMPTS_SHOWN: Final = 10
PENDING: Final[DeliveryState] = "pending"


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


def delivery_history(snapshot: Snapshot, webhook: str) -> DeliveryHistory:
    """Return the history of a webhook in the tenant of the snapshot."""
    of_webhook = Compare("webhook", "=", webhook)
    counts = {
        state: snapshot.find(Query(COLLECTION, _in_state(of_webhook, state), limit=0)).total
        for state in get_args(DeliveryState)
    }
    # While a receiver is down, the oldest pending deliveries have attempts and the latest deliveries have none.
    pending = _find(snapshot, Query(COLLECTION, _in_state(of_webhook, PENDING), limit=MAX_ATTEMPTS_SHOWN))
    latest_first = (OrderBy("time", descending=True),)
    latest = _find(snapshot, Query(COLLECTION, of_webhook, latest_first, limit=MAX_ATTEMPTS_SHOWN))
    deliveries = {delivery.key: delivery for delivery in (*pending, *latest)}.values()
    attempts = [
        RecentAttempt(delivery.event_id, delivery.event_type, attempt)
        for delivery in deliveries
        for attempt in delivery.attempts
    ]
    attempts.sort(key=lambda recent: recent.attempt.time, reverse=True)
    return DeliveryHistory(counts, attempts[:MAX_ATTEMPTS_SHOWN], _next_due(snapshot, of_webhook))


def _next_due(snapshot: Snapshot, of_webhook: Where) -> str | None:
    deliveries = _find(snapshot, Query(COLLECTION, _in_state(of_webhook, PENDING), (OrderBy("due"),), limit=1))
    return None if not deliveries or deliveries[0].due is None else format_epoch_seconds(deliveries[0].due)


def _in_state(of_webhook: Where, state: DeliveryState) -> Where:
    return and_(of_webhook, Compare("state", "=", state))


def _find(snapshot: Snapshot, query: Query) -> list[Delivery]:
    return [Delivery.from_dict(data) for data in orjson.loads(b"[%b]" % snapshot.find(query).body())]
