"""Event types of webhooks and the JSON of their bodies. Names and envelope are the same as in Chalk."""

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
    "IMPORT_COMMITTED",
    "IMPORT_EVENTS",
    "IMPORT_HELD",
    "IMPORT_OVERDUE",
    "IMPORT_REJECTED",
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
    "created": "was added, or restored after it was deleted",
    "updated": "was changed",
    "deleted": "was deleted; it stays readable with the status tobedeleted for a while",
}

COMPLETED = "sync.completed"
CHANGES = "sync.changes"
TEST = "webhook.test"
IMPORT_COMMITTED = "import.committed"
IMPORT_HELD = "import.held"
IMPORT_REJECTED = "import.rejected"
IMPORT_OVERDUE = "import.overdue"

IMPORT_EVENTS: Mapping[str, str] = {
    IMPORT_COMMITTED: "An import changed the roster, or an approved package did.",
    IMPORT_HELD: "A package exceeds a change threshold, and waits for approval.",
    IMPORT_REJECTED: "A package was rejected because of its errors.",
    IMPORT_OVERDUE: "There was no import for longer than the setting `overdue_hours`.",
}
"""Description by event type, of the events about imports. A webhook gets them only if it selects them by name."""


def entity_type(singular_name: str) -> str:
    """Return the entity type of a class of the standard: `academic_session` for `academicSession`."""
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", singular_name).lower()


ENTITIES: Mapping[str, str] = {
    entity_type(resource_type.singular_name): name for name, resource_type in RESOURCES.items()
}
"""Collection by entity type."""

EVENTS: Mapping[str, str] = {
    **{
        f"{entity}.{action}": f"A record of {collection} {description}."
        for entity, collection in ENTITIES.items()
        for action, description in ACTIONS.items()
    },
    COMPLETED: "An import ended; `data.batch.counts` holds its counts. In batched mode, it also contains the changes.",
    CHANGES: "A batch of changes: all batches of a large import but the last, or a gradebook write.",
    **IMPORT_EVENTS,
    TEST: "A test event that the operator requested.",
}
"""Description by event type."""

SELECTABLE_EVENTS = frozenset(EVENTS) - {CHANGES, TEST}
"""Event types that a webhook can select."""


@dataclass(frozen=True, slots=True)
class Change:
    """Changed record as one webhook receives it. `entity` is its JSON, or None if the webhook receives ids only."""

    entity_type: str
    action: Action
    sourced_id: str
    sequence: int
    changed: Sequence[str] | None = None
    entity: bytes | None = None

    @property
    def event_type(self) -> str:
        """The event type, a key of EVENTS."""
        return f"{self.entity_type}.{self.action}"

    def to_json(self) -> bytes:
        """Return the JSON object as bytes."""
        data: dict[str, Any] = {
            "entity_type": self.entity_type,
            "action": self.action,
            "sourced_id": self.sourced_id,
            "sequence": self.sequence,
        }
        if self.changed is not None:
            data["changedFields"] = self.changed
        if self.entity is not None:
            data["entity"] = orjson.Fragment(self.entity)
        return orjson.dumps(data)


@dataclass(frozen=True, slots=True)
class Message:
    """Event as it is delivered: id, type, and the exact bytes of the request body."""

    event_id: str
    event_type: str
    body: bytes


def build_message(
    event_type: str, webhook_id: str, tenant: str, timestamp: str, run: str | None, sequence: int, data: Any
) -> Message:
    """Return a new event with its own id around the data.

    `timestamp` is the creation time, `run` the id of the import (None: gradebook write).
    """
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
