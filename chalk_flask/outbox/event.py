"""The events that subscribers are told of, and the form in which they are told: Chalk's names, Chalk's envelope."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import orjson

from chalk_flask.oneroster.schemas import RESOURCES

__all__ = [
    "ACTIONS",
    "CHANGES",
    "COMPLETED",
    "ENTITIES",
    "EVENTS",
    "SELECTABLE_EVENTS",
    "TEST",
    "Action",
    "Change",
    "Message",
    "build_message",
    "entity_type",
]

Action: TypeAlias = Literal["created", "updated", "deleted"]

ACTIONS: Mapping[Action, str] = {
    "created": "was added, or is there again after it was deleted",
    "updated": "was changed",
    "deleted": "was deleted; it can be read as tobedeleted for a while",
}

COMPLETED = "sync.completed"
CHANGES = "sync.changes"
TEST = "webhook.test"


def entity_type(singular_name: str) -> str:
    """Chalk's word for a class of the standard: academic_session for academicSession."""
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", singular_name).lower()


ENTITIES: Mapping[str, str] = {entity_type(resource.singular_name): name for name, resource in RESOURCES.items()}
"""The collection of each entity type."""

EVENTS: Mapping[str, str] = {
    **{
        f"{entity}.{action}": f"A record of {collection} {what}."
        for entity, collection in ENTITIES.items()
        for action, what in ACTIONS.items()
    },
    COMPLETED: "An import ended; `data.batch.counts` says what it did. Batched, it carries the changes too.",
    CHANGES: "Changes in a batch: the parts before the last of a long run, and what a grade tool wrote.",
    TEST: "Sent on request of the operator, to see whether the endpoint works.",
}
"""Every event type and what it says."""

SELECTABLE_EVENTS = frozenset(EVENTS) - {CHANGES, TEST}
"""Those that a subscriber can ask for, or do without."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record that changed, as a subscriber is told. `entity` is its JSON, or None when ids alone are told."""

    entity_type: str
    action: Action
    sourced_id: str
    sequence: int
    changed: Sequence[str] | None = None
    entity: bytes | None = None

    @property
    def event_type(self) -> str:
        """As it stands in EVENTS."""
        return f"{self.entity_type}.{self.action}"

    def to_json(self) -> bytes:
        """The JSON object."""
        told: dict[str, Any] = {
            "entity_type": self.entity_type,
            "action": self.action,
            "sourced_id": self.sourced_id,
            "sequence": self.sequence,
        }
        if self.changed is not None:
            told["changedFields"] = self.changed
        if self.entity is not None:
            told["entity"] = orjson.Fragment(self.entity)
        return orjson.dumps(told)


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it is delivered: its id, its type, and the exact bytes."""

    event_id: str
    event_type: str
    body: bytes


def build_message(
    event_type: str, webhook_id: str, tenant: str, timestamp: str, run: str | None, sequence: int, data: Any
) -> Message:
    """A new event around its data."""
    event_id = f"evt-{uuid4()}"
    body = {
        "webhook_id": webhook_id,
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": timestamp,
        "tenant_id": tenant,
        "sync_run_id": run,
        "sequence": sequence,
        "data": data,
    }
    return Message(event_id, event_type, orjson.dumps(body))
