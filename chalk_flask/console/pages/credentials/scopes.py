"""Scopes in words: the choices of a form, and the text about an existing credential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chalk_flask.permissions.scopes import (
    DEMOGRAPHICS,
    DESCRIPTIONS,
    GRADEBOOK,
    GRADEBOOK_DELETE,
    GRADEBOOK_WRITE,
    IMPORTS_WRITE,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
    sort_scopes,
)

__all__ = ["DEFAULT_CHOICES", "SCOPE_CHOICES", "ScopeChoice", "chosen_scopes", "describe_scopes", "scope_choices_of"]


@dataclass(frozen=True, slots=True)
class ScopeChoice:
    """Choice of a form that grants one or more scopes, with its label."""

    name: str
    label: str
    scopes: frozenset[str]


SCOPE_CHOICES = (
    ScopeChoice("roster", DESCRIPTIONS[ROSTER], frozenset({ROSTER, ROSTER_CORE})),
    ScopeChoice("resource", DESCRIPTIONS[RESOURCE], frozenset({RESOURCE})),
    ScopeChoice("gradebook", DESCRIPTIONS[GRADEBOOK], frozenset({GRADEBOOK})),
    ScopeChoice("gradebook-write", DESCRIPTIONS[GRADEBOOK_WRITE], frozenset({GRADEBOOK_WRITE})),
    ScopeChoice("gradebook-delete", DESCRIPTIONS[GRADEBOOK_DELETE], frozenset({GRADEBOOK_DELETE})),
    ScopeChoice("demographics", DESCRIPTIONS[DEMOGRAPHICS], frozenset({DEMOGRAPHICS})),
    ScopeChoice("imports", DESCRIPTIONS[IMPORTS_WRITE], frozenset({IMPORTS_WRITE})),
)
"""Choices in the order in which they are shown."""

DEFAULT_CHOICES = ("roster", "resource", "gradebook")
"""Choices that are the default of the command line too: read everything except demographics."""


def chosen_scopes(names: Iterable[str]) -> frozenset[str]:
    """Return the scopes of the chosen names. Ignores unknown names."""
    chosen = set(names)
    return frozenset(scope for choice in SCOPE_CHOICES if choice.name in chosen for scope in choice.scopes)


def scope_choices_of(scopes: frozenset[str]) -> list[str]:
    """Return the names of the choices that scopes include."""
    return [choice.name for choice in SCOPE_CHOICES if choice.scopes & scopes]


def describe_scopes(scopes: frozenset[str]) -> list[str]:
    """Return what scopes allow, one sentence for each choice."""
    return list(_descriptions(scopes))


def _descriptions(scopes: frozenset[str]) -> Iterator[str]:
    for choice in SCOPE_CHOICES:
        granted = choice.scopes & scopes
        if granted == {ROSTER_CORE}:
            yield DESCRIPTIONS[ROSTER_CORE]
        elif granted:
            yield choice.label
    known = frozenset(scope for choice in SCOPE_CHOICES for scope in choice.scopes)
    yield from sort_scopes(scopes - known)
