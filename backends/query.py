"""Query tree: frozen values that every backend compiles or evaluates.

The tree is independent of SQL and OneRoster. A field is named by its path (`"familyName"`, `"orgs.sourcedId"`). The
reserved name `KEY` is the record's own key, `FOLDED_KEY` that key without letter case. Values are comparison keys:
text is compared by code point, numbers as floats. The caller folds case and normalizes dates before it builds the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "FOLDED_KEY",
    "KEY",
    "MATCH_ALL",
    "MATCH_NONE",
    "MAX_SUBSTRING_LENGTH",
    "And",
    "Compare",
    "In",
    "Not",
    "Operator",
    "Or",
    "OrderBy",
    "Query",
    "Scalar",
    "Subquery",
    "Where",
    "and_",
    "leaf_conditions",
]

Scalar: TypeAlias = str | float
"""Comparison key of a field, or one element of it if the field is multi-valued."""
Operator: TypeAlias = Literal["=", "<", "<=", ">", ">=", "~"]

MAX_SUBSTRING_LENGTH = 768
"""Maximum length in characters of the value of a comparison with `~`. The time of a search grows with both texts."""

KEY = "@key"
"""Field name of a record's own key."""

FOLDED_KEY = "@folded_key"
"""Field name of a record's own key after `str.casefold`, to compare it with values whose case is folded."""


@dataclass(frozen=True, slots=True)
class Compare:
    """Condition that is true if the field has a value in this relation to `value`.

    One matching element of a multi-valued field is enough. A missing field never matches. The operator `~` means
    "contains" and applies to text only.
    """

    field: str
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class Subquery:
    """Values of `field` in the records of `collection` that match `where`; the right side of a semi-join."""

    collection: str
    field: str
    where: Where


@dataclass(frozen=True, slots=True)
class In:
    """Condition that is true if the field has one of the values.

    It is a semi-join: a record is returned once, even if several of its values match.
    """

    field: str
    values: tuple[Scalar, ...] | Subquery


@dataclass(frozen=True, slots=True)
class Not:
    """Negation of `term`. `Not(Compare(field, "=", value))` also matches records without the field."""

    term: Where


@dataclass(frozen=True, slots=True)
class And:
    """Condition that is true if every term is true. `And(())` is true."""

    terms: tuple[Where, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Condition that is true if at least one term is true. `Or(())` is false."""

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
    """Sort criterion.

    Missing values sort last in ascending and first in descending order. A multi-valued field sorts by its smallest
    value.
    """

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Condition, order and page on one collection.

    The key, ascending, is always the last sort criterion. `limit=None` returns all records from `offset` on.
    `max_total` limits the total of the page: a store stops counting there. The records of the page do not depend on it.
    """

    collection: str
    where: Where = MATCH_ALL
    order: tuple[OrderBy, ...] = ()
    offset: int = 0
    limit: int | None = None
    max_total: int | None = None

    def limited_total(self, total: int) -> int:
        """Return the total of the page for this number of matching records."""
        return total if self.max_total is None else min(total, self.max_total)


def leaf_conditions(where: Where) -> Iterator[tuple[str | None, Compare | In]]:
    """Yield every leaf of the tree with the name of its collection; None means the collection of the query.

    For the field that a subquery selects, a synthetic leaf `In(field, ())` is yielded, with the subquery's collection.
    """
    match where:
        case Compare():
            yield None, where
        case In(_, Subquery(collection, field, inner)):
            yield None, where
            yield collection, In(field, ())
            for name, leaf in leaf_conditions(inner):
                yield name or collection, leaf
        case In():
            yield None, where
        case Not(term):
            yield from leaf_conditions(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from leaf_conditions(term)
