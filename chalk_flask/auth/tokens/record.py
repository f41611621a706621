"""Stored form of API tokens, which does not contain the token itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from chalk_flask.auth.credential import RevocableCredential
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.times import format_timestamp, parse_timestamp

__all__ = ["ApiToken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken(RevocableCredential):
    """API token of a tenant.

    `prefix` is the beginning of the token, or None for a token that was registered by its SHA-256. `command` is the
    command that created the token for itself, such as `demo`, or None.
    """

    prefix: str | None
    command: str | None = None
    expires: datetime | None = None
    last_used: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Principal of the token while it is valid, before the rules of the tenant."""
        return Principal(self.tenant, self.scopes, self.id, self.restrictions)

    def is_valid_at(self, time: datetime) -> bool:
        """Return True if the token is neither revoked nor expired at that time."""
        return self.revoked is None and (self.expires is None or time < self.expires)

    def state_at(self, time: datetime) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "active" if self.is_valid_at(time) else "expired"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored and shown; times are text in UTC with milliseconds."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "prefix": self.prefix,
            "created": format_timestamp(self.created),
            "expires": format_timestamp(self.expires),
            "lastUsed": format_timestamp(self.last_used),
            "revoked": format_timestamp(self.revoked),
            **({"command": self.command} if self.command else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the token that a stored object describes."""
        return cls(
            **cls._common_arguments(data),
            prefix=data["prefix"],
            command=data.get("command"),
            expires=parse_timestamp(data["expires"]),
            last_used=parse_timestamp(data["lastUsed"]),
            revoked=parse_timestamp(data["revoked"]),
        )

    def _indexed_values(self) -> dict[str, str]:
        return {"id": self.id, "tenant": self.tenant}
