"""Tenants: districts that share a service, each with a roster, tokens, clients and settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from backends import Record, Snapshot
from chalk_flask.access.limits import Limits
from chalk_flask.access.records import Grant

__all__ = ["COLLECTION", "CONTROL", "DEFAULT", "TenantRecord", "granted", "tenant_of"]

CONTROL = "_control"
"""The tenant of what must be found before a tenant is known."""
COLLECTION = "tenants"
DEFAULT = "default"
"""The tenant that always exists, so that a single district never meets the word."""

DEMOGRAPHICS = "demographics"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRecord:
    """A tenant as its operator sees it. `created` is None for the default one, which nobody created."""

    name: str
    created: str | None = None
    demographics: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that is stored and shown."""
        return {"name": self.name, "created": self.created, "demographics": self.demographics}

    def stored(self) -> Record:
        """The record in the collection `tenants`, under the tenant's name."""
        return Record(self.name, orjson.dumps(self.as_dict()))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> TenantRecord:
        """The tenant that a stored object describes."""
        return cls(name=data["name"], created=data["created"], demographics=data["demographics"])


def tenant_of(control: Snapshot, name: str) -> TenantRecord | None:
    """The tenant of that name, from a snapshot of CONTROL; None when there is none."""
    body = control.bodies(COLLECTION, [name]).get(name)
    if body is not None:
        return TenantRecord.of(orjson.loads(body))
    return TenantRecord(name=DEFAULT, demographics=True) if name == DEFAULT else None


def granted(control: Snapshot, grant: Grant) -> Grant | None:
    """The grant as its tenant allows it now, from a snapshot of CONTROL; None when the tenant is no more.

    Without the tenant's opt-in demographics are a denied family, whatever the scopes say.
    """
    tenant = tenant_of(control, grant.tenant)
    if tenant is None:
        return None
    if tenant.demographics:
        return grant
    limits: Limits = replace(grant.limits, denied=grant.limits.denied | {DEMOGRAPHICS})
    return replace(grant, limits=limits)
