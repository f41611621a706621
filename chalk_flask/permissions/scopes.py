"""OAuth 2.0 scopes of OneRoster 1.1, the scope of imports, and the scopes that include another scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = [
    "ALL",
    "DEFAULT",
    "DEMOGRAPHICS",
    "DESCRIPTIONS",
    "GRADEBOOK",
    "GRADEBOOK_DELETE",
    "GRADEBOOK_WRITE",
    "IMPORTS_WRITE",
    "KNOWN",
    "RESOURCE",
    "ROSTER",
    "ROSTER_CORE",
    "SATISFIED_BY",
    "UnknownScopeError",
    "includes_scope",
    "known_scopes",
    "parse_scopes",
    "sort_scopes",
]

PREFIX = "https://purl.imsglobal.org/spec/or/v1p1/scope/"

ROSTER_CORE = PREFIX + "roster-core.readonly"
ROSTER = PREFIX + "roster.readonly"
DEMOGRAPHICS = PREFIX + "roster-demographics.readonly"
RESOURCE = PREFIX + "resource.readonly"
GRADEBOOK = PREFIX + "gradebook.readonly"
GRADEBOOK_WRITE = PREFIX + "gradebook.createput"
GRADEBOOK_DELETE = PREFIX + "gradebook.delete"

ALL = (ROSTER_CORE, ROSTER, DEMOGRAPHICS, RESOURCE, GRADEBOOK, GRADEBOOK_WRITE, GRADEBOOK_DELETE)
"""All scopes of OneRoster 1.1, in the order in which they are shown."""

IMPORTS_WRITE = "imports.write"
"""Scope of this service, which no standard defines: upload packages, and decide about held ones."""

KNOWN = (*ALL, IMPORTS_WRITE)
"""All scopes, in the order in which they are shown."""

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        ROSTER_CORE: "Read the core of the roster, without lists such as the classes of a school",
        ROSTER: "Read the roster: schools, people, classes, courses, enrollments and terms",
        DEMOGRAPHICS: "Read demographics: birth date, sex, ethnicity and birthplace",
        RESOURCE: "Read learning resources",
        GRADEBOOK: "Read grades: categories, assignments and results",
        GRADEBOOK_WRITE: "Create and change grades",
        GRADEBOOK_DELETE: "Delete grades",
        IMPORTS_WRITE: "Import packages, which can change every record of the roster, and approve or discard held ones",
    }
)
"""Map from each scope to what it allows."""

DEFAULT = frozenset({ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK})
"""Scopes of a credential by default: read everything except demographics."""

# Some consumers request roster.readonly alone and then read the core collections. Demographics always require their own
# scope, and the gradebook's scopes include no rostering.
SATISFIED_BY: Mapping[str, frozenset[str]] = MappingProxyType(
    {scope: frozenset({scope}) for scope in KNOWN} | {ROSTER_CORE: frozenset({ROSTER_CORE, ROSTER})}
)
"""Map from the scope that a route requires to the scopes of which the principal must have one."""


class UnknownScopeError(ValueError):
    """Unknown scope; the message quotes it and lists the scopes."""


def includes_scope(granted: frozenset[str], required: str) -> bool:
    """Return True if the granted scopes include the required one."""
    return not granted.isdisjoint(SATISFIED_BY[required])


def parse_scopes(texts: Iterable[str]) -> frozenset[str]:
    """Return the scopes of these texts: names, last parts of URIs (`roster.readonly`), or `all`; DEFAULT for none.

    `all` does not include the scope of imports, with which a credential of an app could replace the roster.
    Raises UnknownScopeError.
    """
    return frozenset(scope for text in texts for scope in _parse(text.strip())) or DEFAULT


def known_scopes(names: Iterable[str]) -> frozenset[str]:
    """Return the scopes with these names, URIs or their last parts (`roster.readonly`). Ignores other names."""
    return frozenset(scope for name in names if (scope := _uri(name)) in SATISFIED_BY)


def sort_scopes(granted: Iterable[str]) -> list[str]:
    """Return the granted scopes in the order of KNOWN."""
    scopes = frozenset(granted)
    return [scope for scope in KNOWN if scope in scopes]


def _parse(text: str) -> tuple[str, ...]:
    if text == "all":
        return ALL
    scope = _uri(text)
    if scope not in SATISFIED_BY:
        names = ", ".join(scope.removeprefix(PREFIX) for scope in KNOWN)
        raise UnknownScopeError(
            f"unknown scope {text!r}; the scopes are {names} (those of OneRoster also with the prefix {PREFIX}), or all"
        )
    return (scope,)


def _uri(name: str) -> str:
    return name if name == IMPORTS_WRITE or name.startswith(PREFIX) else PREFIX + name
