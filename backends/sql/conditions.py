"""Properties of conditions that decide how a database should find the records."""

from __future__ import annotations

from collections.abc import Iterator

from backends.query import FOLDED_KEY, KEY, MATCH_ALL, And, Compare, In, Not, Or, Query, Subquery, Where
from backends.records import Collection

__all__ = [
    "collections_read",
    "conjuncts",
    "scans_records",
    "selects_all_by_keys",
    "selects_by_key",
    "uses_equality_index",
    "uses_range_index",
]

_MAX_KEYS = 100
"""Number of keys up to which a page of their records is read at once, without a total or cached results."""

_RANGE_OPERATORS = ("<", "<=", ">", ">=")


def collections_read(where: Where) -> set[str]:
    """Return the names of the collections in the subqueries of a condition."""
    match where:
        case In(_, Subquery(collection, _, inner)):
            return {collection} | collections_read(inner)
        case Not(term):
            return collections_read(term)
        case And(terms) | Or(terms):
            return set().union(*map(collections_read, terms))
        case _:
            return set()


def uses_range_index(collection: Collection, where: Where) -> str | None:
    """Return the indexed field of a range comparison, if the condition has no more selective index; otherwise None."""
    range_field = None
    for term in conjuncts(where):
        if not isinstance(term, Compare | In):
            continue
        field = collection.field_for(term.field)
        if term.field == KEY or not field.is_scalar:
            return None
        if field.indexed and isinstance(term, Compare) and term.operator in _RANGE_OPERATORS:
            range_field = term.field
        elif field.indexed:
            return None
    return range_field


def uses_equality_index(collection: Collection, where: Where) -> bool:
    """Return True if the condition compares an indexed field with given values, and its index has no order of keys."""
    equal = {
        term.field
        for term in conjuncts(where)
        if isinstance(term, In) or (isinstance(term, Compare) and term.operator == "=")
    }
    if any(equal.issuperset(paths) for paths in collection.combined_indexes):
        return False
    fields = [collection.field_for(path) for path in equal - {KEY, FOLDED_KEY}]
    return any(field.indexed and field.is_scalar and not field.low_cardinality for field in fields)


def scans_records(collection: Collection, where: Where) -> bool:
    """Return True if no index finds the matching records, for example because the condition searches in texts."""
    return where != MATCH_ALL and not any(_uses_index(collection, term) for term in conjuncts(where))


def _uses_index(collection: Collection, term: Where) -> bool:
    match term:
        case Compare(field, operator, _):
            return operator != "~" and _begins_index(collection, field)
        case In(field, _):
            return _begins_index(collection, field)
        case Or(alternatives):
            return not any(scans_records(collection, alternative) for alternative in alternatives)
        case _:
            return False


def _begins_index(collection: Collection, field: str) -> bool:
    return collection.field_for(field).indexed or any(paths[0] == field for paths in collection.combined_indexes)


def conjuncts(where: Where) -> Iterator[Where]:
    """Yield the terms of nested conjunctions."""
    if isinstance(where, And):
        for term in where.terms:
            yield from conjuncts(term)
    else:
        yield where


def selects_by_key(where: Where) -> bool:
    """Return True if the condition demands one key, so that at most one record fulfills it."""
    match where:
        case Compare(field, operator, _):
            return field == KEY and operator == "="
        case And(terms):
            return any(selects_by_key(term) for term in terms)
        case _:
            return False


def selects_all_by_keys(query: Query) -> bool:
    """Return True if the condition names a few keys, and the page has all of their records in the order of keys."""
    match query:
        case Query(where=In(field, tuple() as values), order=(), offset=0, limit=int() as limit):
            return field == KEY and len(values) <= min(limit, _MAX_KEYS)
        case _:
            return False
