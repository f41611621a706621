"""The scopes of OneRoster 1.1: which there are, which one opens another's door (specification 1.1, digest 9.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = [
    "ALL",
    "DEFAULT",
    "DEMOGRAPHICS",
    "GRADEBOOK",
    "GRADEBOOK_DELETE",
    "GRADEBOOK_WRITE",
    "RESOURCE",
    "ROSTER",
    "ROSTER_CORE",
    "SATISFIED_BY",
    "UnknownScopeError",
    "parse_scopes",
    "scope_satisfied",
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
"""The seven scopes, in the order in which they are shown."""

DEFAULT = frozenset({ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK})
"""What a token may do when nobody said: read everything but demographics."""

# Consumers exist that ask for roster.readonly alone and then read the core collections. Demographics are opened by
# nothing but their own scope, and the gradebook's scopes open no rostering.
SATISFIED_BY: Mapping[str, frozenset[str]] = MappingProxyType(
    {scope: frozenset({scope}) for scope in ALL} | {ROSTER_CORE: frozenset({ROSTER_CORE, ROSTER})}
)
"""For each scope those of which one must be granted."""


class UnknownScopeError(ValueError):
    """A text names no scope; the message lists those there are."""


def scope_satisfied(granted: frozenset[str], needed: str) -> bool:
    """Whether these scopes open what needs that one."""
    return not granted.isdisjoint(SATISFIED_BY[needed])


def parse_scopes(texts: Iterable[str]) -> frozenset[str]:
    """The scopes that an operator names: by URI, by its last part (`roster.readonly`), or `all`; DEFAULT without any.

    Raises UnknownScopeError.
    """
    granted = frozenset(scope for text in texts for scope in _named(text.strip()))
    return granted or DEFAULT


def sort_scopes(granted: Iterable[str]) -> list[str]:
    """The scopes in the order of ALL."""
    held = frozenset(granted)
    return [scope for scope in ALL if scope in held]


def _named(text: str) -> tuple[str, ...]:
    if text == "all":
        return ALL
    scope = text if text.startswith(PREFIX) else PREFIX + text
    if scope not in SATISFIED_BY:
        names = ", ".join(scope.removeprefix(PREFIX) for scope in ALL)
        raise UnknownScopeError(f"there is no scope {text!r}; there are all, {names}, also with {PREFIX} in front")
    return (scope,)
