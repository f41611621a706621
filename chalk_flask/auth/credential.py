"""Base classes of the credentials that are stored: API tokens, OAuth clients and trusted issuers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import orjson

from backends import Record
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.storage import checked_members
from chalk_flask.times import parse_timestamp

__all__ = ["Credential", "RevocableCredential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential(ABC):
    """Stored credential of one tenant, with its scopes and access restrictions."""

    id: str
    label: str
    tenant: str
    scopes: frozenset[str]
    created: datetime
    restrictions: AccessRestrictions = NO_RESTRICTIONS

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored; times are text in UTC with milliseconds."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the credential that a stored object describes."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the credential of a stored body. Raises DamagedStoreError."""
        return cls._from_stored(orjson.loads(body))

    @classmethod
    def parse_many(cls, bodies: bytes) -> Iterator[Self]:
        """Return the credentials of the stored bodies, which commas separate. Raises DamagedStoreError."""
        return map(cls._from_stored, orjson.loads(b"[%s]" % bodies))

    @classmethod
    def _from_stored(cls, data: Mapping[str, Any]) -> Self:
        with checked_members("credential"):
            return cls.from_dict(data)

    def to_record(self, key: str) -> Record:
        """Return the record that stores this credential under `key`."""
        return Record(key, orjson.dumps(self.to_dict()), self._indexed_values())

    def _indexed_values(self) -> dict[str, str]:
        return {"tenant": self.tenant}

    @staticmethod
    def _common_arguments(data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": data["id"],
            "label": data["label"],
            "tenant": data["tenant"],
            "scopes": frozenset(data["scopes"]),
            "created": parse_timestamp(data["created"]),
            "restrictions": AccessRestrictions.from_dict(data.get("limits")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocableCredential(Credential):
    """Credential that stays in the store when it is revoked. `revoked` is the time of revocation, or None."""

    revoked: datetime | None = None
