"""What is to be sent to whom: the exact bytes, once, and beside them how far their delivery has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import orjson

from backends import Record, Transaction
from chalk_flask.outbox.event import Message

__all__ = ["BODIES", "COLLECTION", "RETENTION_DAYS", "Attempt", "Delivery", "State", "enqueue"]

COLLECTION = "deliveries"
"""How far each delivery has come."""
BODIES = "outbox"
"""What each delivery sends, under the same key; never changed."""

RETENTION_DAYS = 30
"""For so long deliveries that are over are kept with their attempts, and can be replayed."""

State: TypeAlias = Literal["pending", "delivered", "failed"]

_STATE = ":state"
"""The key, in BODIES, of the last number that was given."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: when it began, for how many milliseconds it lasted, the answer's status and first kilobyte, or why there
    was none."""

    time: str
    ms: int
    status: int | None = None
    error: str | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one webhook. `key` sorts as the events happened, in its tenant.

    `due` is when it is to be tried next, in seconds since the epoch; None when nothing is to be done any more. `tries`
    counts the attempts since it was last begun, `attempts` holds all that are known.
    """

    key: str
    webhook: str
    event_id: str
    event_type: str
    created: str
    due: float | None
    state: State = "pending"
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()

    def with_attempt(self, attempt: Attempt, state: State, due: float | None) -> Delivery:
        """The delivery after one more attempt."""
        return replace(self, attempts=(*self.attempts, attempt), tries=self.tries + 1, state=state, due=due)

    def requeued(self, due: float) -> Delivery:
        """The delivery begun anew, with a whole schedule before it, whatever became of it before."""
        return replace(self, state="pending", tries=0, due=due)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored and shown."""
        return asdict(self)

    def to_record(self) -> Record:
        """The record in COLLECTION. `time` is when it was created; `due` and `queue`, which is the webhook again, are
        there only while it waits."""
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
        """The delivery that a stored object describes."""
        return cls(**{**data, "attempts": tuple(Attempt(**each) for each in data["attempts"])})


def enqueue(
    transaction: Transaction, messages: Sequence[tuple[str, Message]], created: str, due: float
) -> Iterable[Delivery]:
    """Write one delivery for each pair of a webhook's id and an event, in their order, to be tried from `due` on."""
    state = transaction.get_many(BODIES, [_STATE]).get(_STATE)
    last: int = orjson.loads(state)["last"] if state else 0
    made = [
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
    bodies = [Record(each.key, message.body) for each, (_, message) in zip(made, messages, strict=True)]
    transaction.put(BODIES, [*bodies, Record(_STATE, orjson.dumps({"last": last + len(made)}))])
    transaction.put(COLLECTION, [each.to_record() for each in made])
    return made
