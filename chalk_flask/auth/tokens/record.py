"""What is kept of a bearer token: everything but the token, and how that stands in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from backends import Record
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes

__all__ = ["ApiToken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token as its operator sees it. `prefix` is its beginning (None: only its hash was ever known here)."""

    id: str
    label: str
    tenant: str
    scopes: frozenset[str]
    prefix: str | None
    created: datetime
    restrictions: AccessRestrictions = NO_RESTRICTIONS
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None

    @property
    def principal(self) -> Principal:
        """What the token lets its bearer do as long as it is valid."""
        return Principal(self.tenant, self.scopes, self.id, self.restrictions)

    def valid_at(self, moment: datetime) -> bool:
        """Whether the token opens anything at that moment."""
        return self.revoked is None and (self.expires is None or moment < self.expires)

    def state_at(self, moment: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "active" if self.valid_at(moment) else "expired"

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored and shown; moments in UTC with milliseconds, null where nothing happened."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "prefix": self.prefix,
            "created": _written(self.created),
            "expires": _written(self.expires),
            "lastUsed": _written(self.last_used),
            "revoked": _written(self.revoked),
        }

    def to_record(self, digest: str) -> Record:
        """The record in the collection `tokens`, under the SHA-256 of the token in hexadecimal digits."""
        return Record(digest, orjson.dumps(self.to_dict()), {"id": self.id, "tenant": self.tenant})

    @classmethod
    def parse(cls, body: bytes) -> ApiToken:
        """The token that a stored body describes."""
        return cls.from_dict(orjson.loads(body))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ApiToken:
        """The token that a stored object describes."""
        return cls(
            id=data["id"],
            label=data["label"],
            tenant=data["tenant"],
            scopes=frozenset(data["scopes"]),
            restrictions=AccessRestrictions.from_dict(data.get("limits")),
            prefix=data["prefix"],
            created=datetime.fromisoformat(data["created"]),
            expires=_read(data["expires"]),
            last_used=_read(data["lastUsed"]),
            revoked=_read(data["revoked"]),
        )


def _written(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
