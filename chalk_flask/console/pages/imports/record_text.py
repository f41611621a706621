"""Records and their fields as short texts, for lists of changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from markupsafe import Markup

if TYPE_CHECKING:
    from chalk_flask.console.pages.roster.labels import RecordLinks, Reference

__all__ = ["FieldChange", "Record", "changed_fields", "record_name", "references_in_name"]

Record: TypeAlias = Mapping[str, Any]
"""Record as the API serves it."""

MAX_TEXT_LENGTH = 300
"""Maximum length of a value."""

IGNORED_FIELDS = frozenset({"sourcedId", "dateLastModified"})
NAME_FIELDS = ("name", "title", "vendorResourceId")
_NAMED_FIELDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "enrollments": (("user", "users"), ("class", "classes")),
    "results": (("student", "users"), ("lineItem", "lineItems")),
}
"""Fields with references to the records that name a record, and their resource types, by collection."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Field of a record with its text before and after a change; "" stands for no value."""

    field: str
    before: str
    after: str


def references_in_name(collection: str, record: Record) -> list[Reference]:
    """Return references to the records whose names are in the display name of a record."""
    fields = _NAMED_FIELDS.get(collection, ()) if record else ()
    return [(name, record[field]["sourcedId"]) for field, name in fields]


def record_name(collection: str, record: Record, links: RecordLinks) -> str:
    """Return the display name of a record: a name, a title, or the user and class of an enrollment; "" if it has none.

    `links` finds the names of the records to which it refers. A text with two names is HTML, which isolates them,
    because a name from right to left would move the words around it.
    """
    if collection == "users":
        return " ".join(str(record[name]) for name in ("givenName", "familyName") if name in record)
    names = [links.link(*reference).text for reference in references_in_name(collection, record)]
    if names and collection == "enrollments":
        return Markup("<bdi>{}</bdi> as {} in <bdi>{}</bdi>").format(names[0], record["role"], names[1])
    if names:
        return Markup("<bdi>{}</bdi> in <bdi>{}</bdi>").format(*names)
    return next((str(record[name]) for name in NAME_FIELDS if name in record), "")


def changed_fields(before: Record, after: Record) -> list[FieldChange]:
    """Return the fields whose texts differ between two states of a record."""
    changes = (
        FieldChange(name, _text(before.get(name)), _text(after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if name not in IGNORED_FIELDS and before.get(name) != after.get(name)
    )
    return [change for change in changes if change.before != change.after]


def _text(value: Any) -> str:
    """Return a value as text. A reference is its id."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case {"sourcedId": key}:
            return _cut(str(key))
        case dict():
            return _cut(", ".join(f"{name}: {_text(each)}" for name, each in value.items()))
        case list():
            return _cut(", ".join(map(_text, value)))
        case _:
            return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
