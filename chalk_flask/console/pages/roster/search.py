"""Search box and filter of a list: the text of the filter for the API, and the words that complete it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chalk_flask.console.pages.roster.catalog import BrowsedCollection
from chalk_flask.oneroster.fields.composites import EnumListField
from chalk_flask.oneroster.fields.scalars import BooleanField, EnumField, OneRosterField
from chalk_flask.oneroster.vocabularies import TRUTH

__all__ = ["clause", "completions", "search_filter", "suggestions"]

PREDICATES = ("=", "!=", "~", "<", "<=", ">", ">=")
_EXACT_PREDICATES = ("=", "!=")


def clause(field: str, predicate: str, value: str) -> str:
    """Return a clause of the filter grammar. A quote in the value is doubled."""
    quoted = value.replace("'", "''")
    return f"{field}{predicate}'{quoted}'"


def search_filter(collection: BrowsedCollection, text: str, filter_text: str) -> str:
    """Return the filter for a search text and a filter, either of which may be empty.

    A filter has at most two clauses. So a search beside a filter compares one field, and the API rejects the search
    beside a filter of two clauses with a message.
    """
    text, filter_text = text.strip(), filter_text.strip()
    if not text:
        return filter_text
    if filter_text:
        return f"{clause(collection.presentation.search[0], '~', text)} AND {filter_text}"
    if collection.resource_type.name == "users":
        return _people_filter(text)
    return _any_of(collection.presentation.search, text)


def _people_filter(text: str) -> str:
    """Return the filter for a person: `given family`, `family, given`, or one word of a name or e-mail address."""
    family, comma, given = (part.strip() for part in text.partition(","))
    if not comma:
        given, _, family = (part.strip() for part in text.partition(" "))
    if given and family and "@" not in text:
        return f"{clause('givenName', '~', given)} AND {clause('familyName', '~', family)}"
    return _any_of(("familyName", "email"), text.strip(", "))


def _any_of(fields: tuple[str, ...], text: str) -> str:
    return " OR ".join(clause(field, "~", text) for field in fields)


def completions(collection: BrowsedCollection) -> list[dict[str, Any]]:
    """Return the fields that a filter can name, each with its predicates and, for a vocabulary, its values."""
    return [
        {"name": name, "predicates": list(_EXACT_PREDICATES if values else PREDICATES), "values": list(values)}
        for name, values in _filter_fields(collection)
    ]


def suggestions(collection: BrowsedCollection) -> list[str]:
    """Return whole filters, which complete the input without JavaScript."""
    return [
        clause(name, "=", value) if value else f"{name}~''"
        for name, values in _filter_fields(collection)
        for value in values or ("",)
    ]


def _filter_fields(collection: BrowsedCollection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and vocabulary of every field that a filter can name. The longer name of a reference is left out."""
    for name, field in collection.resource_type.fields.items():
        for path in field.filter_paths(name):
            if not path.name.endswith((".*", ".sourcedId")):
                yield path.name, _vocabulary_of(field)


def _vocabulary_of(field: OneRosterField) -> tuple[str, ...]:
    if isinstance(field, EnumField | EnumListField):
        return field.vocabulary
    return TRUTH if isinstance(field, BooleanField) else ()
