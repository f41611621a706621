"""Deliveries: the state of each event for each webhook, stored apart from the bytes to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import orjson

from backends import CONTROL, And, Backend, Compare, Record, Transaction, Where
from chalk_flask.outbox.event import Message
from chalk_flask.tenants.store import find_tenant

__all__ = [
    "BODIES",
    "COLLECTION",
    "RETENTION_DAYS",
    "STATES",
    "Attempt",
    "Delivery",
    "DeliveryState",
    "delivery_days",
    "enqueue",
    "of_webhook",
]

COLLECTION = "deliveries"
"""Collection of the delivery states, by delivery key."""
BODIES = "outbox"
"""Collection of the request bodies, by delivery key. Retries send the same bytes."""

RETENTION_DAYS = 30
"""Days for which a finished delivery is stored and can be replayed, unless its tenant sets another number."""

DeliveryState: TypeAlias = Literal["pending", "delivered", "failed"]
STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)

_LAST_NUMBER_KEY = ":state"
"""Key in BODIES of the record that holds the last delivery number."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request of a delivery.

    `time` is when it began, `ms` its duration in milliseconds. `status` and `answer` are the status code and the first
    kilobyte of the response. If there was no response, `error` is the reason.
    """

    time: str
    ms: int
    status: int | None = None
    error: str | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """State of one event for one webhook. Keys sort in the order of the events of a tenant.

    `due` is the time of the next attempt, in seconds since the epoch, or None if the delivery is finished. `tries`
    counts the attempts since the delivery was last queued, `attempts` holds all stored attempts.
    """

    key: str
    webhook: str
    event_id: str
    event_type: str
    created: str
    due: float | None
    state: DeliveryState = "pending"
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()

    def with_attempt(self, attempt: Attempt, state: DeliveryState, due: float | None) -> Delivery:
        """Return the delivery with one more attempt and its new state."""
        return replace(self, attempts=(*self.attempts, attempt), tries=self.tries + 1, state=state, due=due)

    def requeued(self, due: float) -> Delivery:
        """Return the delivery as pending, with all retries ahead of it."""
        return replace(self, state="pending", tries=0, due=due)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored and displayed."""
        return asdict(self)

    def to_record(self) -> Record:
        """Return the record for COLLECTION.

        `time` is the creation time. Only pending deliveries have `due` and `queue`, which repeats the webhook id.
        """
        values = {
            "webhook": self.webhook,
            "queue": None if self.due is None else self.webhook,
            "event": self.event_id,
            "time": self.created,
            "state": self.state,
            "due": self.due,
        }
        return Record(self.key, orjson.dumps(self), values)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Delivery:
        """Return the delivery of a stored JSON object."""
        return cls(**{**data, "attempts": tuple(Attempt(**attempt) for attempt in data["attempts"])})


def of_webhook(webhook: str, state: DeliveryState | None = None) -> Where:
    """Return the condition of the deliveries of a webhook; only those in `state` unless it is None."""
    in_any_state = Compare("webhook", "=", webhook)
    return in_any_state if state is None else And((in_any_state, Compare("state", "=", state)))


def delivery_days(store: Backend, tenant: str) -> int:
    """Return the days for which finished deliveries of a tenant are stored. Raises StorageError."""
    with store.read(CONTROL) as control:
        found = find_tenant(control, tenant)
    return RETENTION_DAYS if found is None or found.delivery_days is None else found.delivery_days


def enqueue(
    transaction: Transaction, messages: Sequence[tuple[str, Message]], created: str, due: float
) -> Sequence[Delivery]:
    """Store one pending delivery for each pair of a webhook id and an event, and return them in this order.

    `created` is a timestamp, `due` the time of the first attempt in seconds since the epoch.
    """
    state = transaction.get_many(BODIES, [_LAST_NUMBER_KEY]).get(_LAST_NUMBER_KEY)
    last: int = orjson.loads(state)["last"] if state else 0
    deliveries = [
        Delivery(
            key=f"{number:016}",
            webhook=webhook,
            event_id=message.event_id,
            event_type=message.event_type,
            created=created,
            due=due,
        )
        for number, (webhook, message) in enumerate(messages, last + 1)
    ]
    bodies = [Record(delivery.key, message.body) for delivery, (_, message) in zip(deliveries, messages, strict=True)]
    transaction.put(BODIES, [*bodies, Record(_LAST_NUMBER_KEY, orjson.dumps({"last": last + len(deliveries)}))])
    transaction.put(COLLECTION, [delivery.to_record() for delivery in deliveries])
    return deliveries
