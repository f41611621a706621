"""How far the deliveries of a webhook have come, as its operator sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import orjson

from backends import And, Compare, OrderBy, Query, Snapshot, Where
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import COLLECTION, Attempt, Delivery, State

__all__ = ["DeliveryHistory", "RecentAttempt", "delivery_history"]

LAST = 10
"""Attempts that are shown."""

WAITING: State = "pending"


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """An attempt, and what it was to deliver."""

    event_id: str
    event_type: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DeliveryHistory:
    """Deliveries by state, the last attempts (the latest first), and the moment at which the next one is due."""

    counts: Mapping[State, int]
    last: Sequence[RecentAttempt]
    next_due: str | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is shown."""
        shown = [
            {"event_id": each.event_id, "event_type": each.event_type, **asdict(each.attempt)} for each in self.last
        ]
        return {"deliveries": dict(self.counts), "next_due": self.next_due, "last_attempts": shown}


def delivery_history(snapshot: Snapshot, webhook: str) -> DeliveryHistory:
    """The history of a webhook in the snapshot's tenant."""
    of = Compare("webhook", "=", webhook)
    counts = {state: snapshot.find(Query(COLLECTION, _in(of, state), limit=0)).total for state in get_args(State)}
    # The first that wait are older than the last that were made, when an endpoint is down.
    waiting = _found(snapshot, Query(COLLECTION, _in(of, WAITING), limit=LAST))
    latest = _found(snapshot, Query(COLLECTION, of, (OrderBy("time", descending=True),), limit=LAST))
    shown = {each.key: each for each in (*waiting, *latest)}.values()
    tried = [RecentAttempt(each.event_id, each.event_type, attempt) for each in shown for attempt in each.attempts]
    tried.sort(key=lambda each: each.attempt.time, reverse=True)
    return DeliveryHistory(counts, tried[:LAST], _next_due(snapshot, of))


def _next_due(snapshot: Snapshot, of: Where) -> str | None:
    found = _found(snapshot, Query(COLLECTION, _in(of, WAITING), (OrderBy("due"),), limit=1))
    return None if not found or found[0].due is None else format_instant(found[0].due)


def _in(of: Where, state: State) -> Where:
    return And((of, Compare("state", "=", state)))


def _found(snapshot: Snapshot, query: Query) -> list[Delivery]:
    return [Delivery.from_dict(each) for each in orjson.loads(b"[%b]" % snapshot.find(query).body())]
