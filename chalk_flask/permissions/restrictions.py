"""Limits of rows and fields that a token, a client or an issuer carries as data (design section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chalk_flask.oneroster.fields.base import OneRosterField, printable
from chalk_flask.oneroster.fields.composites import MetadataField, RefField, UserIdsField
from chalk_flask.oneroster.schemas import RESOURCES

__all__ = ["NO_RESTRICTIONS", "AccessRestrictions", "InvalidRestrictionError", "is_redacted"]

BASE = frozenset({"sourcedId", "status", "dateLastModified"})

_ALWAYS = ("orgs", "grades", "classes")
# Members that are no secret however well a body hides them.
_TOLD = {"role": "paths such as /students and /teachers", "type": "paths such as /schools and /terms"}
_SAID = {
    "orgs": "orgs {}",
    "grades": "grades {}",
    "classes": "classes {}",
    "denied": "no {}",
    "redacted": "without {}",
}


class InvalidRestrictionError(ValueError):
    """Limits that nobody can mean; the message names what is wrong and says what there is."""


@dataclass(frozen=True, slots=True)
class AccessRestrictions:
    """What a bearer may see of a tenant. None: no limit of that kind; an empty set: nothing.

    `orgs` and `classes` are sourcedIds, `grades` codes as they stand in `grades`; `denied` are collections by the
    standard's name, `redacted` paths such as `email` or `metadata.*`.
    """

    orgs: frozenset[str] | None = None
    grades: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    redacted: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, list[str]]:
        """The JSON object that is stored and shown: only the kinds that limit something."""
        kinds = {name: getattr(self, name) for name in self.__slots__}
        return {name: sorted(held) for name, held in kinds.items() if held is not None and (held or name in _ALWAYS)}

    def __str__(self) -> str:
        return "; ".join(_SAID[name].format(",".join(held) or "none") for name, held in self.to_dict().items())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> AccessRestrictions:
        """The limits that a stored object describes."""
        return cls(**{name: frozenset(held) for name, held in data.items()}) if data else NO_RESTRICTIONS

    @classmethod
    def parse(
        cls,
        orgs: Iterable[str] = (),
        grades: Iterable[str] = (),
        classes: Iterable[str] = (),
        denied: Iterable[str] = (),
        redacted: Iterable[str] = (),
    ) -> AccessRestrictions:
        """The limits that an operator names; a kind of which nothing is named is not limited. Raises InvalidRestrictionError."""
        found = cls(
            _allowed("an org", orgs),
            _allowed("a grade", grades),
            _allowed("a class", classes),
            frozenset(_family(text.strip()) for text in denied),
            frozenset(_path(text.strip()) for text in redacted),
        )
        return NO_RESTRICTIONS if found == NO_RESTRICTIONS else found


NO_RESTRICTIONS = AccessRestrictions()


def is_redacted(redacted: Iterable[str], path: str) -> bool:
    """Whether one of the redacted paths is that path or lies above it; `metadata.*` is the same as `metadata`."""
    return any(path == above or path.startswith(above + ".") for above in (r.removesuffix(".*") for r in redacted))


def _allowed(what: str, texts: Iterable[str]) -> frozenset[str] | None:
    allowed = frozenset(texts)
    if any(not text.strip() for text in allowed):
        raise InvalidRestrictionError(f"{what} is named by nothing but blanks: give its id, or leave the limit out")
    return allowed or None


def _family(name: str) -> str:
    if name not in RESOURCES:
        raise InvalidRestrictionError(f"there is no family {printable(name)} to deny; there are {', '.join(RESOURCES)}")
    return name


def _path(name: str) -> str:
    """The path as it is kept, if some class has it and can do without it."""
    path = name.removesuffix(".*")
    member, _, part = path.partition(".")
    if member in BASE:
        raise InvalidRestrictionError(
            f"{member} cannot be redacted: without it no consumer can tell what became of a record"
        )
    found = [element for resource in RESOURCES.values() if (element := resource.fields.get(member))]
    if not found or path.endswith(".") or not all(_has_part(element, part) for element in found):
        raise InvalidRestrictionError(
            f"there is no field {printable(name)} to redact; there are {', '.join(_redactable())}, metadata.*"
        )
    references = [element for element in found if isinstance(element, RefField)]
    if any(element.required for element in references):
        raise InvalidRestrictionError(
            f"{member} cannot be redacted: it is a reference without which the record means nothing"
        )
    if member in _TOLD:
        raise InvalidRestrictionError(f"{member} cannot be redacted: {_TOLD[member]} tell it all the same")
    return member if references else name


def _has_part(element: OneRosterField, part: str) -> bool:
    match element:
        case MetadataField():
            return True
        case UserIdsField():
            return part in ("", "type", "identifier")
        case RefField():
            return part in ("", "sourcedId")
        case _:
            return not part


def _redactable() -> list[str]:
    names = {name: element for resource in RESOURCES.values() for name, element in resource.fields.items()}
    kept = {name for name, element in names.items() if isinstance(element, RefField) and element.required}
    return sorted(names.keys() - kept - BASE - _TOLD.keys() - {"metadata"})
