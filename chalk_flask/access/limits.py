"""Limits of rows and fields that a token, a client or an issuer carries as data (design section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["UNLIMITED", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a bearer may see of a tenant. None: no limit of that kind; an empty set: nothing.

    `orgs` and `classes` are sourcedIds, `grades` codes as they stand in `grades`; `denied` are collections by the
    standard's name, `redacted` paths such as `email` or `metadata.*`.
    """

    orgs: frozenset[str] | None = None
    grades: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    redacted: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, list[str]]:
        """The JSON object that is stored and shown: only the kinds that limit something."""
        kinds = {name: getattr(self, name) for name in self.__slots__}
        always = {"orgs", "grades", "classes"}
        return {name: sorted(held) for name, held in kinds.items() if held is not None and (held or name in always)}

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Limits:
        """The limits that a stored object describes."""
        return cls(**{name: frozenset(held) for name, held in data.items()}) if data else UNLIMITED


UNLIMITED = Limits()
