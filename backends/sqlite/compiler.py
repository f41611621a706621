"""Compiler of the query tree to SQL. Values are always bound as parameters.

Each collection has a table with the columns `_id`, `_tenant`, `_key`, `_body` and one column per scalar field. The
side table `_many(id, path, value)` stores the values of all multi-valued and dynamic fields; `path` is an id from
`_paths`. A semi-join compiles to `IN (SELECT ...)`, which never duplicates a row. `NOT` treats NULL (a missing field)
as false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from backends.query import (
    FOLDED_KEY,
    KEY,
    MATCH_ALL,
    And,
    Compare,
    In,
    Not,
    Or,
    OrderBy,
    Query,
    Scalar,
    Subquery,
    Where,
)
from backends.records import Collection

__all__ = [
    "CHECK_DEADLINE",
    "FOLD",
    "Compiler",
    "Fragment",
    "collections_read",
    "column",
    "quote_identifier",
    "scans_records",
    "selects_all_by_keys",
    "selects_by_key",
    "uses_equality_index",
    "uses_range_index",
]

_MAX_KEYS = 100
"""Number of keys up to which a page of their records is read at once, without a total or cached row ids."""

_MAX_DEPTH = 10
"""Depth above which a subtree becomes a common table expression. SQLite's parser stack has 100 entries."""

_SUBQUERY_DEPTH = 6
"""Depth that a subquery on a multi-valued field counts for. It becomes up to three nested statements."""

_SCALAR_SUBQUERY_DEPTH = 3
"""Depth that a subquery between two scalar fields counts for. It becomes one nested statement."""

_MAX_TERMS = 200
"""Number of terms above which they are joined as a tree. SQLite limits the depth of an expression to 1,000."""

_RANGE_OPERATORS = ("<", "<=", ">", ">=")

CHECK_DEADLINE = "chalk_check_deadline"
"""Name of the SQL function that ends the statement after its time limit, and returns 0 otherwise."""

FOLD = "chalk_fold"
"""Name of the SQL function that folds the case of a text, as `str.casefold` does."""

_LONG_TEXT_LENGTH = 512
"""Length in characters above which the search in a text checks the deadline. It is one instruction of SQLite."""

_MAX_PARAMS = 200
"""Number of values above which they are bound as one JSON array. SQLite limits the number of parameters."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """SQL text with its parameters in order."""

    text: str
    params: tuple[Scalar, ...] = ()


def quote_identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def column(path: str) -> str:
    """Return the quoted column name of a scalar field, or the expression of a reserved one."""
    if path == FOLDED_KEY:
        return f'{FOLD}("_key")'
    return '"_key"' if path == KEY else quote_identifier(path)


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
    for term in _conjuncts(where):
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
        for term in _conjuncts(where)
        if isinstance(term, In) or (isinstance(term, Compare) and term.operator == "=")
    }
    if any(equal.issuperset(paths) for paths in collection.combined_indexes):
        return False
    fields = [collection.field_for(path) for path in equal - {KEY, FOLDED_KEY}]
    return any(field.indexed and field.is_scalar and not field.low_cardinality for field in fields)


def scans_records(collection: Collection, where: Where) -> bool:
    """Return True if no index finds the matching records, for example because the condition searches in texts."""
    return where != MATCH_ALL and not any(_uses_index(collection, term) for term in _conjuncts(where))


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


def _conjuncts(where: Where) -> Iterator[Where]:
    """Yield the terms of nested conjunctions."""
    if isinstance(where, And):
        for term in where.terms:
            yield from _conjuncts(term)
    else:
        yield where


class Compiler:
    """Compiler of the conditions of one statement. `path_id` returns the id of a path, or -1 if it was never stored."""

    def __init__(self, collections: Mapping[str, Collection], path_id: Callable[[str, str], int], tenant: int) -> None:
        self._collections = collections
        self._path_id = path_id
        self._tenant = tenant
        self._subtrees: list[Fragment] = []

    def from_where(self, collection: Collection, where: Where, *, use_range_index: bool = False) -> Fragment:
        """Return `FROM ... WHERE ...` for the matching records of the tenant.

        `use_range_index` makes SQLite use the index of the range comparison instead of the index of the tenant's keys.
        """
        condition = self._where(collection, where, 0)
        table = f"FROM {quote_identifier(collection.name)} WHERE {'+' if use_range_index else ''}_tenant = ?"
        return Fragment(f"{table} AND {condition.text}", (self._tenant, *condition.params))

    def with_clause(self) -> Fragment:
        """Return `WITH ...` with the subtrees of deep conditions, or empty text. It goes before the SELECT.

        Call it after `from_where`.
        """
        if not self._subtrees:
            return Fragment("")
        text = ", ".join(f"_subtree{n} AS MATERIALIZED ({subtree.text})" for n, subtree in enumerate(self._subtrees))
        return Fragment(f"WITH {text} ", tuple(value for subtree in self._subtrees for value in subtree.params))

    def order_by(self, collection: Collection, order: Sequence[OrderBy], *, sorts_rows: bool = False) -> Fragment:
        """Return `ORDER BY ...` with the key as the last criterion.

        `sorts_rows` makes SQLite sort the matching rows instead of reading all rows in the order of an index.
        """
        sign = "+" if sorts_rows else ""
        parts: list[str] = []
        params: list[Scalar] = []
        for criterion in order:
            direction = "DESC NULLS FIRST" if criterion.descending else "ASC NULLS LAST"
            if criterion.field == KEY:
                parts.append(f"{sign}_key {'DESC' if criterion.descending else 'ASC'}")
                break
            if self._is_scalar(collection, criterion.field):
                parts.append(f"{sign}{column(criterion.field)} {direction}")
            else:
                parts.append(f"(SELECT min(value) FROM _many WHERE id = _id AND path = ?) {direction}")
                params.append(self._path_id(collection.name, criterion.field))
        else:
            parts.append(f"{sign}_key ASC")
        return Fragment("ORDER BY " + ", ".join(parts), tuple(params))

    def _where(self, collection: Collection, where: Where, depth: int) -> Fragment:
        if depth > _MAX_DEPTH and not isinstance(where, Compare):
            return self._as_cte(collection, where)
        match where:
            case Compare(field, operator, value):
                return self._compare(collection, field, operator, value)
            case In(field, Subquery() as subquery):
                return self._in_rows(
                    collection, field, self._subquery(subquery, depth + self._depth_of(collection, where))
                )
            case In(field, tuple() as values):
                return self._in(collection, field, values)
            case Not(Not(term)):
                return self._where(collection, term, depth)
            case Not(term):
                condition = self._where(collection, term, depth + 1)
                return Fragment(f"NOT ifnull({condition.text}, 0)", condition.params)
            case And():
                conjuncts = tuple(_conjuncts(where))  # nested conjunctions take no further depth
                return _join(self._each(collection, conjuncts, _depth_below(conjuncts, depth)), " AND ", "1")
            case Or(terms):
                return _join(self._alternatives(collection, terms, _depth_below(terms, depth)), " OR ", "0")
        raise TypeError(f"{where!r} is not a condition")

    def _as_cte(self, collection: Collection, where: Where) -> Fragment:
        condition = self._where(collection, where, 0)
        params = (self._tenant, *condition.params)
        self._subtrees.append(
            Fragment(
                f"SELECT _id FROM {quote_identifier(collection.name)} WHERE _tenant = ? AND {condition.text}", params
            )
        )
        return Fragment(f"_id IN _subtree{len(self._subtrees) - 1}")

    def _each(self, collection: Collection, terms: Sequence[Where], depth: int) -> list[Fragment]:
        return [self._where(collection, term, depth) for term in terms]

    def _alternatives(self, collection: Collection, terms: Sequence[Where], depth: int) -> list[Fragment]:
        """Return one condition for all comparisons of a side-table field, and one for each other term.

        A condition on the side table reads all values of the field. A filter may have a hundred alternatives.
        """
        others: list[Where] = []
        by_field: dict[str, list[Compare]] = {}
        for term in terms:
            if isinstance(term, Compare) and not self._is_scalar(collection, term.field):
                by_field.setdefault(term.field, []).append(term)
            else:
                others.append(term)
        merged = [self._any_of(collection, field, comparisons) for field, comparisons in by_field.items()]
        return merged + self._each(collection, others, depth)

    def _any_of(self, collection: Collection, field: str, comparisons: Sequence[Compare]) -> Fragment:
        if all(comparison.operator == "=" for comparison in comparisons):
            return self._in(collection, field, tuple(comparison.value for comparison in comparisons))
        path = self._path_id(collection.name, field)
        tests = _join_as_tree([_test("value", comparison.operator) for comparison in comparisons], " OR ")
        values = (_to_param(comparison.value) for comparison in comparisons)
        return Fragment(f"_id IN (SELECT id FROM _many WHERE path = ? AND ({tests}))", (path, *values))

    def _compare(self, collection: Collection, field: str, operator: str, value: Scalar) -> Fragment:
        value = _to_param(value)
        if self._is_scalar(collection, field):
            return Fragment(_test(column(field), operator), (value,))
        path = self._path_id(collection.name, field)
        return Fragment(f"_id IN (SELECT id FROM _many WHERE path = ? AND {_test('value', operator)})", (path, value))

    def _in(self, collection: Collection, field: str, values: tuple[Scalar, ...]) -> Fragment:
        if not values:
            return Fragment("0")
        values = tuple(map(_to_param, values))
        if len(values) <= _MAX_PARAMS:
            return self._in_rows(collection, field, Fragment(", ".join("?" * len(values)), values))
        # SQLite's JSON functions end a string at a NUL character, so such values are bound one by one.
        plain = [value for value in values if not (isinstance(value, str) and "\0" in value)]
        with_nul = tuple(value for value in values if isinstance(value, str) and "\0" in value)
        rows = Fragment("SELECT value FROM json_each(?)", (orjson.dumps(plain).decode(),))
        condition = self._in_rows(collection, field, rows)
        if not with_nul:
            return condition
        batches = [with_nul[n : n + _MAX_PARAMS] for n in range(0, len(with_nul), _MAX_PARAMS)]
        others = _join([self._in(collection, field, batch) for batch in batches], " OR ", "0")
        return Fragment(f"({condition.text} OR {others.text})", condition.params + others.params)

    def _in_rows(self, collection: Collection, field: str, rows: Fragment) -> Fragment:
        if self._is_scalar(collection, field):
            return Fragment(f"{column(field)} IN ({rows.text})", rows.params)
        path = self._path_id(collection.name, field)
        return Fragment(
            f"_id IN (SELECT id FROM _many WHERE path = ? AND value IN ({rows.text}))", (path, *rows.params)
        )

    def _subquery(self, subquery: Subquery, depth: int) -> Fragment:
        other = self._collections[subquery.collection]
        condition = self._where(other, subquery.where, depth)
        rows = f"FROM {quote_identifier(other.name)} WHERE _tenant = ? AND {condition.text}"
        params = (self._tenant, *condition.params)
        if self._is_scalar(other, subquery.field):
            return Fragment(f"SELECT {column(subquery.field)} {rows}", params)
        path = self._path_id(other.name, subquery.field)
        return Fragment(f"SELECT value FROM _many WHERE path = ? AND id IN (SELECT _id {rows})", (path, *params))

    def _depth_of(self, collection: Collection, where: In) -> int:
        """Return the depth that a semi-join with a subquery counts for."""
        assert isinstance(where.values, Subquery)
        source = self._collections[where.values.collection]
        is_scalar = self._is_scalar(collection, where.field) and self._is_scalar(source, where.values.field)
        return _SCALAR_SUBQUERY_DEPTH if is_scalar else _SUBQUERY_DEPTH

    @staticmethod
    def _is_scalar(collection: Collection, path: str) -> bool:
        return collection.field_for(path).is_scalar


def _test(name: str, operator: str) -> str:
    """Return the comparison of a column with a parameter."""
    if operator != "~":
        return f"{name} {operator} ?"
    return f"instr({name}, ?) > CASE WHEN length({name}) > {_LONG_TEXT_LENGTH} THEN {CHECK_DEADLINE}() ELSE 0 END"


def _depth_below(terms: Sequence[Where], depth: int) -> int:
    return depth if len(terms) == 1 else depth + 1


def _join(conditions: Sequence[Fragment], operator: str, empty: str) -> Fragment:
    if len(conditions) == 1:
        return conditions[0]
    if not conditions:
        return Fragment(empty)
    text = _join_as_tree([condition.text for condition in conditions], operator)
    return Fragment(f"({text})", tuple(value for condition in conditions for value in condition.params))


def _to_param(value: Scalar) -> Scalar:
    """Return a number as float, as numbers are stored as REAL. SQLite's integers have only 64 bits."""
    return value if isinstance(value, str) else float(value)


def _join_as_tree(parts: list[str], operator: str) -> str:
    while len(parts) > _MAX_TERMS:
        groups = (parts[n : n + _MAX_TERMS] for n in range(0, len(parts), _MAX_TERMS))
        parts = [f"({operator.join(group)})" for group in groups]
    return operator.join(parts)


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
