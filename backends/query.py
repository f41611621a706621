"""What may be asked of a store: a tree of frozen values that every backend compiles or evaluates.

The tree knows neither SQL nor OneRoster. A field is named by its path (`"familyName"`, `"orgs.sourcedId"`); the
reserved name `KEY` is the record's own key. Values are *comparison keys*: text is compared by code point, numbers
as numbers, and whoever builds the tree has folded case and normalised dates before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "KEY",
    "MATCH_ALL",
    "MATCH_NONE",
    "And",
    "Compare",
    "In",
    "Key",
    "Not",
    "Operator",
    "Or",
    "OrderBy",
    "Query",
    "Subquery",
    "Where",
    "and_",
    "leaf_conditions",
]

Key: TypeAlias = str | float
Operator: TypeAlias = Literal["=", "<", "<=", ">", ">=", "~"]

KEY = "@key"


@dataclass(frozen=True, slots=True)
class Compare:
    """True when the field holds a value that stands in this relation to `value`.

    On a many-valued field some element is enough. A missing field never compares. `~` is "contains" and is asked
    of text only.
    """

    field: str
    operator: Operator
    value: Key


@dataclass(frozen=True, slots=True)
class Subquery:
    """The values of `field` over the records of `collection` that match `where`; feeds a semi-join."""

    collection: str
    field: str
    where: Where


@dataclass(frozen=True, slots=True)
class In:
    """True when the field holds one of the values. A semi-join: however many match, the record comes once."""

    field: str
    values: tuple[Key, ...] | Subquery


@dataclass(frozen=True, slots=True)
class Not:
    """True exactly when `term` is not, so `Not(Compare(f, "=", v))` also matches a record without `f`."""

    term: Where


@dataclass(frozen=True, slots=True)
class And:
    """True when every term is; `And(())` is true."""

    terms: tuple[Where, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True when some term is; `Or(())` is false."""

    terms: tuple[Where, ...]


Where: TypeAlias = Compare | In | Not | And | Or

MATCH_ALL: Where = And(())
"""Condition that every record meets."""

MATCH_NONE: Where = Or(())
"""Condition that no record meets."""


def and_(first: Where, second: Where) -> Where:
    """Return the conjunction of two conditions, without a node for MATCH_ALL."""
    if first is MATCH_ALL:
        return second
    return first if second is MATCH_ALL else And((first, second))


@dataclass(frozen=True, slots=True)
class OrderBy:
    """Sort by a field: missing last ascending and first descending; a many-valued field by its least value."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A page of one collection. The key, ascending, is always the last tie-break; `limit=None` is all that is left."""

    collection: str
    where: Where = MATCH_ALL
    order: tuple[OrderBy, ...] = ()
    offset: int = 0
    limit: int | None = None


def leaf_conditions(where: Where) -> Iterator[tuple[str | None, Compare | In]]:
    """Every leaf of the tree with the collection it is asked of (None: the collection of the query itself)."""
    match where:
        case Compare():
            yield None, where
        case In(_, Subquery(collection, field, inner)):
            yield None, where
            yield collection, In(field, ())
            for owner, leaf in leaf_conditions(inner):
                yield owner or collection, leaf
        case In():
            yield None, where
        case Not(term):
            yield from leaf_conditions(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from leaf_conditions(term)
