"""Compiler of the query tree to SQL. Values are always bound as parameters.

The `Dialect` has the table names and the SQL of a database. A semi-join compiles to `IN (SELECT ...)`, which never
duplicates a row. `NOT` treats NULL (a missing field) as false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from backends.query import KEY, And, Compare, In, Not, Or, OrderBy, Scalar, Subquery, Where
from backends.records import Collection
from backends.sql.conditions import conjuncts
from backends.sql.dialect import Dialect, Fragment, join_as_tree

__all__ = ["Compiler", "PathIds"]

PathIds: TypeAlias = Callable[[str, str], int]
"""Function that returns the id of a path of a collection, or -1 if it was never stored."""

_SUBQUERY_DEPTH = 6
"""Depth that a subquery on a multi-valued field counts for. It becomes up to three nested statements."""

_SCALAR_SUBQUERY_DEPTH = 3
"""Depth that a subquery between two scalar fields counts for. It becomes one nested statement."""


class Compiler:
    """Compiler of the conditions of one statement on the records of one tenant."""

    def __init__(self, dialect: Dialect, collections: Mapping[str, Collection], path_id: PathIds, tenant: int) -> None:
        self._dialect = dialect
        self._collections = collections
        self._path_id = path_id
        self._tenant = tenant
        self._subtrees: list[Fragment] = []

    def from_where(self, collection: Collection, where: Where, *, use_range_index: bool = False) -> Fragment:
        """Return `FROM ... WHERE ...` for the matching records of the tenant.

        `use_range_index` prefers the index of the range comparison to the index of the tenant's keys.
        """
        condition = self._where(collection, where, 0)
        tenant = self._dialect.ignoring_index("_tenant") if use_range_index else "_tenant"
        table = f"FROM {self._dialect.table(collection.name)} WHERE {tenant} = ?"
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

        `sorts_rows` prefers sorting the matching rows to reading all rows in the order of an index.
        """
        parts: list[str] = []
        params: list[object] = []
        for criterion in order:
            if criterion.field == KEY:
                parts.append(self._sorted_column("_key", sorts_rows) + (" DESC" if criterion.descending else " ASC"))
                break
            value = self._sort_value(collection, criterion.field, sorts_rows)
            parts.append(value.text + (" DESC NULLS FIRST" if criterion.descending else " ASC NULLS LAST"))
            params += value.params
        else:
            parts.append(self._sorted_column("_key", sorts_rows) + " ASC")
        return Fragment("ORDER BY " + ", ".join(parts), tuple(params))

    def _sort_value(self, collection: Collection, path: str, sorts_rows: bool) -> Fragment:
        field = collection.field_for(path)
        if field.is_scalar:
            return Fragment(self._sorted_column(self._dialect.column(path), sorts_rows))
        return self._dialect.smallest_side_value(self._tenant, self._path_id(collection.name, path), field.kind)

    def _sorted_column(self, column: str, sorts_rows: bool) -> str:
        return self._dialect.ignoring_index(column) if sorts_rows else column

    def _where(self, collection: Collection, where: Where, depth: int) -> Fragment:
        if depth > self._dialect.max_depth and not isinstance(where, Compare):
            return self._as_cte(collection, where)
        match where:
            case Compare(field, operator, value):
                return self._compare(collection, field, operator, value)
            case In(field, Subquery() as subquery):
                rows = self._subquery(subquery, depth + self._depth_of(collection, where))
                return self._passes(collection, field, lambda name: Fragment(f"{name} IN ({rows.text})", rows.params))
            case In(field, tuple() as values):
                return self._in(collection, field, values)
            case Not(Not(term)):
                return self._where(collection, term, depth)
            case Not(term):
                condition = self._where(collection, term, depth + 1)
                return Fragment(self._dialect.negation(condition.text), condition.params)
            case And():
                terms = tuple(conjuncts(where))  # nested conjunctions take no further depth
                conditions = self._each(collection, terms, _depth_below(terms, depth))
                return _join(conditions, " AND ", self._dialect.true)
            case Or(terms):
                conditions = self._alternatives(collection, terms, _depth_below(terms, depth))
                return _join(conditions, " OR ", self._dialect.false)
        raise TypeError(f"{where!r} is not a condition")

    def _as_cte(self, collection: Collection, where: Where) -> Fragment:
        rows = self.from_where(collection, where)
        self._subtrees.append(Fragment(f"SELECT _id {rows.text}", rows.params))
        return Fragment(self._dialect.in_subtree(f"_subtree{len(self._subtrees) - 1}"))

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
        params = tuple(self._dialect.param(comparison.value) for comparison in comparisons)

        def is_any(name: str) -> Fragment:
            tests = [self._dialect.test(name, comparison.operator) for comparison in comparisons]
            return Fragment(f"({join_as_tree(tests, ' OR ')})", params)

        return self._passes(collection, field, is_any)

    def _compare(self, collection: Collection, field: str, operator: str, value: Scalar) -> Fragment:
        params = (self._dialect.param(value),)
        return self._passes(collection, field, lambda name: Fragment(self._dialect.test(name, operator), params))

    def _in(self, collection: Collection, field: str, values: tuple[Scalar, ...]) -> Fragment:
        if not values:
            return Fragment(self._dialect.false)
        params = [self._dialect.param(value) for value in values]
        return self._passes(collection, field, lambda name: self._dialect.is_one_of(name, params))

    def _passes(self, collection: Collection, path: str, test: Callable[[str], Fragment]) -> Fragment:
        """Return the condition that the field has a value for which `test` is true. It takes the name of a column."""
        field = collection.field_for(path)
        if field.is_scalar:
            return test(self._dialect.column(path))
        path_id = self._path_id(collection.name, path)
        return self._dialect.has_side_value(self._tenant, path_id, test(self._dialect.side_column(field.kind)))

    def _subquery(self, subquery: Subquery, depth: int) -> Fragment:
        other = self._collections[subquery.collection]
        condition = self._where(other, subquery.where, depth)
        rows = f"FROM {self._dialect.table(other.name)} WHERE _tenant = ? AND {condition.text}"
        params = (self._tenant, *condition.params)
        field = other.field_for(subquery.field)
        if field.is_scalar:
            return Fragment(f"SELECT {self._dialect.column(subquery.field)} {rows}", params)
        path = self._path_id(other.name, subquery.field)
        return self._dialect.side_values(self._tenant, path, field.kind, Fragment(f"SELECT _id {rows}", params))

    def _depth_of(self, collection: Collection, where: In) -> int:
        """Return the depth that a semi-join with a subquery counts for."""
        assert isinstance(where.values, Subquery)
        source = self._collections[where.values.collection]
        is_scalar = self._is_scalar(collection, where.field) and self._is_scalar(source, where.values.field)
        return _SCALAR_SUBQUERY_DEPTH if is_scalar else _SUBQUERY_DEPTH

    @staticmethod
    def _is_scalar(collection: Collection, path: str) -> bool:
        return collection.field_for(path).is_scalar


def _depth_below(terms: Sequence[Where], depth: int) -> int:
    return depth if len(terms) == 1 else depth + 1


def _join(conditions: Sequence[Fragment], operator: str, empty: str) -> Fragment:
    if len(conditions) == 1:
        return conditions[0]
    if not conditions:
        return Fragment(empty)
    text = join_as_tree([condition.text for condition in conditions], operator)
    return Fragment(f"({text})", tuple(value for condition in conditions for value in condition.params))
