"""Deliveries of a webhook for the console: pages, single deliveries with their bodies, and results by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from operator import itemgetter
from typing import Any, Final

import orjson

from backends import KEY, And, Compare, OrderBy, Query, Snapshot, Where
from chalk_flask.outbox.delivery import BODIES, COLLECTION, STATES, Delivery, DeliveryState, of_webhook
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES
from chalk_flask.times import format_timestamp

__all__ = [
    "MAX_COUNTED",
    "DayResults",
    "DeliveryBody",
    "DeliveryPage",
    "RecentResults",
    "count_by_day",
    "find_delivery",
    "list_deliveries",
]

MAX_COUNTED: Final = 1000
"""Maximum number of deliveries that are counted. A webhook can have a delivery for each changed record."""


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries of one page, newest first. `older` is the key before which the next page begins, "" if it is empty."""

    deliveries: Sequence[Delivery]
    older: str


@dataclass(frozen=True, slots=True)
class DeliveryBody:
    """Body of a delivery as JSON. `withheld` counts the records of demographics that were removed from it."""

    message: Mapping[str, Any]
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class DayResults:
    """Numbers of the deliveries that were queued on a day (UTC), by their state now."""

    day: date
    delivered: int
    failed: int
    pending: int


@dataclass(frozen=True, slots=True)
class RecentResults:
    """Results by day, oldest first. `is_cut` is True if older deliveries of these days are not counted."""

    days: Sequence[DayResults]
    is_cut: bool


def list_deliveries(
    snapshot: Snapshot, webhook: str, state: DeliveryState | None, before: str, limit: int
) -> DeliveryPage:
    """Return a page of the deliveries of a webhook, newest first; only those in `state` unless it is None.

    `before` is the key before which the page begins, "" for the first page.
    """
    found = _find_newest(snapshot, webhook, [state] if state else STATES, before, limit + 1)
    deliveries = [Delivery.from_dict(data) for data in found[:limit]]
    return DeliveryPage(deliveries, deliveries[-1].key if len(found) > limit else "")


def find_delivery(snapshot: Snapshot, webhook: str, event_id: str) -> tuple[Delivery, DeliveryBody | None] | None:
    """Return the delivery of an event with its body, or None if the webhook has none.

    The body is None if it is not stored any more: an opt-out of the tenant deleted it. Records of demographics are
    removed from it, because reading them requires another permission.
    """
    # An event has few deliveries. With the webhook in the condition, SQLite may read all of its deliveries.
    page = snapshot.find(Query(COLLECTION, Compare("event", "=", event_id), max_total=0))
    found = [data for data in orjson.loads(b"[%b]" % page.body()) if data["webhook"] == webhook]
    if not found:
        return None
    delivery = Delivery.from_dict(found[0])
    body = snapshot.get_many(BODIES, [delivery.key]).get(delivery.key)
    return delivery, None if body is None else _without_demographics(orjson.loads(body))


def count_by_day(snapshot: Snapshot, webhook: str, today: date, days: int) -> RecentResults:
    """Return the results of the last days, counted over the newest deliveries, at most MAX_COUNTED of them."""
    since = format_timestamp(datetime.combine(today - timedelta(days=days - 1), time.min, UTC))
    newest = _find_newest(snapshot, webhook, STATES, "", MAX_COUNTED + 1)
    found = newest[:MAX_COUNTED]
    counts = Counter((data["created"][:10], data["state"]) for data in found)
    dates = [today - timedelta(days=number) for number in range(days - 1, -1, -1)]
    is_cut = len(newest) > len(found) and found[-1]["created"] >= since
    return RecentResults([_results_of(day, counts) for day in dates], is_cut)


def _results_of(day: date, counts: Mapping[tuple[str, str], int]) -> DayResults:
    text = day.isoformat()
    return DayResults(day, *(counts.get((text, state), 0) for state in ("delivered", "failed", "pending")))


def _find_newest(
    snapshot: Snapshot, webhook: str, states: Sequence[DeliveryState], before: str, limit: int
) -> list[dict[str, Any]]:
    """Return the newest deliveries in these states. Keys rise with each delivery, and each state has an index by key.

    So the cost does not depend on the number of deliveries.
    """
    order = (OrderBy(KEY, descending=True),)
    pages = [
        snapshot.find(Query(COLLECTION, _before(webhook, state, before), order, limit=limit, max_total=0)).body()
        for state in states
    ]
    found: list[dict[str, Any]] = orjson.loads(b"[%b]" % b",".join(filter(None, pages)))
    return sorted(found, key=itemgetter("key"), reverse=True)[:limit]


def _before(webhook: str, state: DeliveryState, before: str) -> Where:
    in_state = of_webhook(webhook, state)
    return And((in_state, Compare(KEY, "<", before))) if before else in_state


def _without_demographics(message: dict[str, Any]) -> DeliveryBody:
    """Remove the records of demographics from a message. The ids of their changes stay."""
    withheld = 0
    for change in _changes_of(message):
        if change["entity_type"] in OPT_IN_ENTITIES and change.pop("entity", None) is not None:
            withheld += 1
    return DeliveryBody(message, withheld)


def _changes_of(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    data = message["data"]
    if "single" in data:
        yield data["single"]
    yield from data.get("batch", {}).get("changes", ())
