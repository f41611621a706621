"""What is kept of a tenant, and what is said of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from backends import Record

__all__ = ["COLLECTION", "DeletedTenant", "Tenant", "TenantSummary"]

COLLECTION = "tenants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant as its operator sees it. `created` is None for the default one, which nobody created.

    `max_deleted` and `max_changed` are the limits above which an import is held, as texts; None is the usual ones.
    """

    name: str
    created: str | None = None
    demographics: bool = False
    max_deleted: str | None = None
    max_changed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored and shown."""
        return {
            "name": self.name,
            "created": self.created,
            "demographics": self.demographics,
            "maxDeleted": self.max_deleted,
            "maxChanged": self.max_changed,
        }

    def to_record(self) -> Record:
        """The record in the collection `tenants`, under the tenant's name."""
        return Record(self.name, orjson.dumps(self.to_dict()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tenant:
        """The tenant that a stored object describes."""
        return cls(
            name=data["name"],
            created=data["created"],
            demographics=data["demographics"],
            max_deleted=data.get("maxDeleted"),
            max_changed=data.get("maxChanged"),
        )


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """A tenant and how much it has: active records of each served collection that has any, credentials of each kind.

    Credentials that were revoked or have expired are counted too.
    """

    tenant: Tenant
    records: Mapping[str, int]
    credentials: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is shown."""
        return {**self.tenant.to_dict(), "counts": dict(self.records), **self.credentials}


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """What was erased with a tenant: so many records, and so many credentials of each kind."""

    name: str
    records: int
    credentials: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is shown."""
        return {"name": self.name, "erased": {"records": self.records, **self.credentials}}
