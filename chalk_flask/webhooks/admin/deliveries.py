"""Deliveries of a webhook for the console: pages, single deliveries with their bodies, and results by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import orjson

from backends import And, Compare, OrderBy, Query, Snapshot, Where
from chalk_flask.outbox.delivery import BODIES, COLLECTION, Delivery, DeliveryState
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
    """Deliveries of one page, newest first, and the number of all that match."""

    deliveries: Sequence[Delivery]
    total: int


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
    snapshot: Snapshot, webhook: str, state: DeliveryState | None, offset: int, limit: int
) -> DeliveryPage:
    """Return a page of the deliveries of a webhook, newest first; only those in `state` unless it is None."""
    where = _where(webhook, state)
    page = snapshot.find(Query(COLLECTION, where, (OrderBy("time", descending=True),), offset, limit))
    deliveries = [Delivery.from_dict(data) for data in orjson.loads(b"[%b]" % page.body())]
    return DeliveryPage(deliveries, page.total)


def find_delivery(snapshot: Snapshot, webhook: str, event_id: str) -> tuple[Delivery, DeliveryBody | None] | None:
    """Return the delivery of an event with its body, or None if the webhook has none.

    The body is None if it is not stored any more: an opt-out of the tenant deleted it. Records of demographics are
    removed from it, because reading them requires another permission.
    """
    where = And((Compare("webhook", "=", webhook), Compare("event", "=", event_id)))
    found = orjson.loads(b"[%b]" % snapshot.find(Query(COLLECTION, where, limit=1)).body())
    if not found:
        return None
    delivery = Delivery.from_dict(found[0])
    body = snapshot.get_many(BODIES, [delivery.key]).get(delivery.key)
    return delivery, None if body is None else _without_demographics(orjson.loads(body))


def count_by_day(snapshot: Snapshot, webhook: str, today: date, days: int) -> RecentResults:
    """Return the results of the last days, counted over the newest deliveries, at most MAX_COUNTED of them."""
    since = format_timestamp(datetime.combine(today - timedelta(days=days - 1), time.min, UTC))
    newest = Query(COLLECTION, _where(webhook, None), (OrderBy("time", descending=True),), limit=MAX_COUNTED)
    page = snapshot.find(newest)
    found = orjson.loads(b"[%b]" % page.body())
    counts = Counter((data["created"][:10], data["state"]) for data in found)
    dates = [today - timedelta(days=number) for number in range(days - 1, -1, -1)]
    is_cut = page.total > len(found) and bool(found) and found[-1]["created"] >= since
    return RecentResults([_results_of(day, counts) for day in dates], is_cut)


def _results_of(day: date, counts: Mapping[tuple[str, str], int]) -> DayResults:
    text = day.isoformat()
    return DayResults(day, *(counts.get((text, state), 0) for state in ("delivered", "failed", "pending")))


def _where(webhook: str, state: DeliveryState | None) -> Where:
    of_webhook = Compare("webhook", "=", webhook)
    return of_webhook if state is None else And((of_webhook, Compare("state", "=", state)))


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
