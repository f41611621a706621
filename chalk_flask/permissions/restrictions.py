"""Access restrictions: the rows and fields to which a stored credential is restricted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalk_flask.names import similar_names
from chalk_flask.oneroster.fields.base import OneRosterField, printable
from chalk_flask.oneroster.fields.composites import MetadataField, RefField, UserIdsField
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import IMPORTS_WRITE

__all__ = [
    "NO_RESTRICTIONS",
    "REPEATING_FIELDS",
    "AccessRestrictions",
    "InvalidRestrictionError",
    "check_scopes",
    "is_redacted",
]

_BASE_FIELDS = frozenset({"sourcedId", "status", "dateLastModified"})
_ROW_KINDS = ("orgs", "grades", "classes")
# Fields whose values are revealed by URL paths, even if the body omits them.
_REVEALED_BY = {"role": "paths such as /students and /teachers", "type": "paths such as /schools and /terms"}
_TEXT_FORMATS = {
    "orgs": "orgs {}",
    "grades": "grades {}",
    "classes": "classes {}",
    "denied": "no {}",
    "redacted": "without {}",
}


def _repeating_fields() -> Iterator[tuple[str, str]]:
    """Yield pairs of a field and another one that repeats what it shows, by the declarations of the schemas."""
    for resource_type in RESOURCES.values():
        for name, field in resource_type.derived_fields.items():
            if field.inverse:  # both show one stored link, from both of its ends
                yield from ((field.inverse, name), (name, field.inverse))
        yield from ((field.fallback, name) for name, field in resource_type.fields.items() if field.fallback)


REPEATING_FIELDS = frozenset(_repeating_fields())
"""Pairs of a field and another one that repeats what it shows, which is hidden with it.

`children` repeats `parent`, and the other way round. `courseCode` repeats `title` if a course has no code of its own.
"""


SIMILAR_FIELDS = 5
"""Maximum number of fields that the message about an unknown field suggests."""


class InvalidRestrictionError(ValueError):
    """Invalid restriction; the message quotes it and lists valid ones."""


@dataclass(frozen=True, slots=True)
class AccessRestrictions:
    """Rows and fields of a tenant to which a credential is restricted.

    `orgs` and `classes` are sourcedIds, `grades` grade codes. For these three, None is no restriction and an empty set
    allows nothing. `denied` are collections by the name of the standard, `redacted` paths such as `email` or
    `metadata.*`. Fields that repeat what a redacted field shows (REPEATING_FIELDS) are added to `redacted`.
    """

    orgs: frozenset[str] | None = None
    grades: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    redacted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        repeating = {other for name, other in REPEATING_FIELDS if is_redacted(self.redacted, name)}
        if not repeating <= self.redacted:
            object.__setattr__(self, "redacted", self.redacted | repeating)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the JSON object that is stored and shown, without the kinds that restrict nothing."""
        kinds = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: sorted(values)
            for name, values in kinds.items()
            if values is not None and (values or name in _ROW_KINDS)
        }

    def __str__(self) -> str:
        return "; ".join(
            _TEXT_FORMATS[name].format(",".join(values) or "none") for name, values in self.to_dict().items()
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> AccessRestrictions:
        """Return the restrictions of a stored object; NO_RESTRICTIONS for an empty or missing one."""
        return cls(**{name: frozenset(values) for name, values in data.items()}) if data else NO_RESTRICTIONS

    @classmethod
    def parse(
        cls,
        orgs: Iterable[str] = (),
        grades: Iterable[str] = (),
        classes: Iterable[str] = (),
        denied: Iterable[str] = (),
        redacted: Iterable[str] = (),
    ) -> AccessRestrictions:
        """Return the restrictions that an operator entered; an empty kind restricts nothing.

        Raises InvalidRestrictionError.
        """
        restrictions = cls(
            _parse_ids("an org", orgs),
            _parse_ids("a grade", grades),
            _parse_ids("a class", classes),
            frozenset(_parse_collection(text.strip()) for text in denied),
            frozenset(_parse_path(text.strip()) for text in redacted),
        )
        return NO_RESTRICTIONS if restrictions == NO_RESTRICTIONS else restrictions


def check_scopes(scopes: Iterable[str], restrictions: AccessRestrictions) -> None:
    """Raise InvalidRestrictionError if credentials with one of these scopes cannot have access restrictions.

    An import can change every record, so the admin API rejects credentials with restrictions.
    """
    if IMPORTS_WRITE in scopes and restrictions != NO_RESTRICTIONS:
        raise InvalidRestrictionError(f"the scope {IMPORTS_WRITE} requires a credential without access restrictions")


def is_redacted(redacted: Iterable[str], path: str) -> bool:
    """Return True if a redacted path is this path or a parent of it; `metadata.*` is the same as `metadata`."""
    return any(path == above or path.startswith(above + ".") for above in (r.removesuffix(".*") for r in redacted))


NO_RESTRICTIONS = AccessRestrictions()
"""Empty restrictions. Parsers always return this instance for them, so that callers can compare with `is`."""


def _parse_ids(kind: str, texts: Iterable[str]) -> frozenset[str] | None:
    ids = frozenset(texts)
    if any(not text.strip() for text in ids):
        raise InvalidRestrictionError(f"the id of {kind} cannot be blank; give an id, or leave the option out")
    return ids or None


def _parse_collection(name: str) -> str:
    if name not in RESOURCES:
        raise InvalidRestrictionError(
            f"unknown collection {printable(name)}; the collections are {', '.join(RESOURCES)}"
        )
    return name


def _parse_path(name: str) -> str:
    """Return the path in its stored form. Raises InvalidRestrictionError if no class has it or it is required."""
    path = name.removesuffix(".*")
    member, _, part = path.partition(".")
    if member in _BASE_FIELDS:
        raise InvalidRestrictionError(f"{member} cannot be redacted: consumers need it to follow changes of a record")
    fields = [field for resource_type in RESOURCES.values() if (field := resource_type.fields.get(member))]
    if not fields or path.endswith(".") or not all(_has_part(field, part) for field in fields):
        raise InvalidRestrictionError(f"unknown field {printable(name)}; {_suggest_fields(path)}")
    references = [field for field in fields if isinstance(field, RefField)]
    if any(field.required for field in references):
        raise InvalidRestrictionError(f"{member} cannot be redacted: it is a required reference of the record")
    if member in _REVEALED_BY:
        raise InvalidRestrictionError(f"{member} cannot be redacted: {_REVEALED_BY[member]} reveal it")
    return member if references else name


def _suggest_fields(path: str) -> str:
    """Return the fields with a similar name, or an example if there is none."""
    similar = similar_names(path, _redactable(), SIMILAR_FIELDS)
    if similar:
        return f"similar fields that can be redacted are {', '.join(similar)}, and metadata.*"
    return "give the name of a member as the API serves it, for example email or metadata.*"


def _has_part(field: OneRosterField, part: str) -> bool:
    match field:
        case MetadataField():
            return True
        case UserIdsField():
            return part in ("", "type", "identifier")
        case RefField():
            return part in ("", "sourcedId")
        case _:
            return not part


def _redactable() -> list[str]:
    fields = {name: field for resource_type in RESOURCES.values() for name, field in resource_type.fields.items()}
    required = {name for name, field in fields.items() if isinstance(field, RefField) and field.required}
    return sorted(fields.keys() - required - _BASE_FIELDS - _REVEALED_BY.keys() - {"metadata"})
