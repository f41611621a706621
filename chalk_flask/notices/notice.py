"""Stored form of notices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from backends import Record
from chalk_flask.outbox.event import IMPORT_EVENTS

__all__ = ["COLLECTION", "DIGEST", "NOTICE_EVENTS", "Notice"]

COLLECTION: Final = "notices"
NOTICE_EVENTS: Final = tuple(IMPORT_EVENTS)
"""Events of which administrators can be notified at once: the events of webhooks about imports."""
DIGEST: Final = "digest"
"""Event of a notice with all imports of a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Message about one event of a tenant. Keys sort in the order of creation.

    `details` has counts and reasons, and never a cell of a package. `run` is the id of an import run, None for a
    digest. `done` are the ids of the administrators who got the message, or whose address was rejected for good.
    """

    key: str
    event: str
    created: str
    run: str | None
    details: Mapping[str, Any]
    done: tuple[str, ...] = ()

    def to_record(self) -> Record:
        """Return the record for COLLECTION."""
        return Record(self.key, orjson.dumps(asdict(self)))

    @classmethod
    def parse(cls, body: bytes) -> Notice:
        """Return the notice of a stored body."""
        data = orjson.loads(body)
        return cls(**{**data, "done": tuple(data["done"])})
