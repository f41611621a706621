"""Stored form of tenants, and the summaries that commands print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

import orjson

from backends import Record

__all__ = ["COLLECTION", "OPTION_MEMBERS", "DeletedTenant", "Tenant", "TenantOptions", "TenantSummary"]

COLLECTION = "tenants"

OPTION_MEMBERS: Final[Mapping[str, str]] = {
    "demographics": "demographics",
    "max_deleted": "maxDeleted",
    "max_changed": "maxChanged",
    "lenient": "lenient",
    "max_quarantined": "maxQuarantined",
    "invalid_rows": "invalidRows",
    "tombstone_days": "tombstoneDays",
    "delivery_days": "deliveryDays",
    "history_days": "historyDays",
}
"""Member of the JSON object of a tenant for each of its options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Tenant and its settings.

    `created` is None for the default tenant. `demographics` is the opt-in. `max_deleted`, `max_changed` and
    `max_quarantined` are the change thresholds of imports as the operator wrote them. `invalid_rows` is the treatment
    of invalid rows by imports, `reject` or `quarantine`. `tombstone_days`, `delivery_days` and `history_days` are
    retention periods of tombstones, webhook deliveries and the change history. None is the default. `lenient` is the
    default for the option `--lenient` of imports.
    """

    name: str
    created: str | None = None
    demographics: bool = False
    max_deleted: str | None = None
    max_changed: str | None = None
    lenient: bool = False
    max_quarantined: str | None = None
    invalid_rows: str | None = None
    tombstone_days: int | None = None
    delivery_days: int | None = None
    history_days: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored and shown."""
        options = {member: getattr(self, option) for option, member in OPTION_MEMBERS.items()}
        return {"name": self.name, "created": self.created, **options}

    def to_record(self) -> Record:
        """Return the record for the collection `tenants`; its key is the name."""
        return Record(self.name, orjson.dumps(self.to_dict()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tenant:
        """Return the tenant of a stored object. Tenants of earlier versions lack options."""
        options = {option: data[member] for option, member in OPTION_MEMBERS.items() if member in data}
        return cls(name=data["name"], created=data["created"], **options)


class TenantOptions(TypedDict, total=False):
    """Settings of a tenant that can be changed. None changes nothing, and "" restores the default.

    `demographics` is the opt-in. `max_deleted`, `max_changed` and `max_quarantined` are change thresholds of imports.
    `lenient` is the default for lenient reading, `invalid_rows` the treatment of invalid rows,
    `tombstone_days`, `delivery_days` and `history_days` are retention periods.
    """

    demographics: bool | None
    max_deleted: str | None
    max_changed: str | None
    lenient: bool | None
    max_quarantined: str | None
    invalid_rows: str | None
    tombstone_days: int | Literal[""] | None
    delivery_days: int | Literal[""] | None
    history_days: int | Literal[""] | None


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """Tenant with the numbers of its active records by collection and of its credentials by kind.

    Collections without an active record are omitted. Revoked and expired credentials are included. Administrators
    count as one kind of credential.
    """

    tenant: Tenant
    records: Mapping[str, int]
    credentials: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that commands print."""
        return {**self.tenant.to_dict(), "counts": dict(self.records), **self.credentials}


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """Deleted tenant, with the numbers of its deleted records, and of its deleted credentials by kind."""

    name: str
    records: int
    credentials: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that commands print."""
        return {"name": self.name, "erased": {"records": self.records, **self.credentials}}
