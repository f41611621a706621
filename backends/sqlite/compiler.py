"""The query tree compiled to SQL: parameters are always bound, never pasted.

The layout it speaks of: a table a collection with the columns `_id`, `_tenant`, `_key`, `_body` and one for every
scalar field, and one table `_many(path, value, id)` for every many-valued or dynamic field, where `path` is a number
from `_paths`. Semi-joins become `IN (SELECT ...)`, so that no join can double a row, and every `NOT` takes an unknown
(a missing field) for false first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from backends.query import KEY, And, Compare, In, Key, Not, Or, OrderBy, Subquery, Where
from backends.records import Collection

__all__ = ["Compiler", "Fragment", "collections_read", "column", "quote_identifier", "uses_range_index"]

MAX_DEPTH = 10
"""Deeper trees are cut into common table expressions: SQLite's parser has a stack of 100 entries."""

MAX_SUBQUERY_DEPTH = 4
"""How deep a question within a question counts: it takes some 18 entries of that stack, other nodes six at most."""

MAX_TERMS = 200
"""More alternatives than this are joined as a tree: the depth of an expression is limited to 1,000."""

RANGES = ("<", "<=", ">", ">=")

MAX_PARAMS = 200
"""Longer lists of values are bound as one JSON array: the number of parameters is limited."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of SQL and what is bound to it, in order."""

    text: str
    params: tuple[Key, ...] = ()


def quote_identifier(name: str) -> str:
    """A name as SQL writes an identifier."""
    return '"' + name.replace('"', '""') + '"'


def column(path: str) -> str:
    """The column of a scalar field."""
    return '"_key"' if path == KEY else quote_identifier(path)


def collections_read(where: Where) -> set[str]:
    """The other collections that a condition looks into."""
    match where:
        case In(_, Subquery(collection, _, inner)):
            return {collection} | collections_read(inner)
        case Not(term):
            return collections_read(term)
        case And(terms) | Or(terms):
            return set().union(*map(collections_read, terms))
        case _:
            return set()


def uses_range_index(owner: Collection, where: Where) -> str | None:
    """The indexed field whose range is what a condition has to offer, when nothing in it finds fewer at once."""
    ranged = None
    for term in _terms(where):
        if not isinstance(term, Compare | In):
            continue
        held = owner.field_for(term.field)
        if term.field == KEY or held.multi_valued or held.is_dynamic:
            return None
        if held.indexed and isinstance(term, Compare) and term.operator in RANGES:
            ranged = term.field
        elif held.indexed:
            return None
    return ranged


def _terms(where: Where) -> Iterator[Where]:
    """What all must hold, whatever is nested how."""
    if isinstance(where, And):
        for term in where.terms:
            yield from _terms(term)
    else:
        yield where


class Compiler:
    """Compiles conditions on one statement; `path_id` numbers the paths of the side table (-1: never stored)."""

    def __init__(self, collections: Mapping[str, Collection], path_id: Callable[[str, str], int], tenant: int) -> None:
        self._collections = collections
        self._path_id = path_id
        self._tenant = tenant
        self._tables: list[Fragment] = []

    def rows(self, owner: Collection, where: Where, *, by_range: bool = False) -> Fragment:
        """`FROM ... WHERE ...` for the records of this tenant that match.

        `by_range` keeps SQLite from going through all keys of the tenant, so that it takes the index of the range.
        """
        found = self._where(owner, where, 0)
        here = f"FROM {quote_identifier(owner.name)} WHERE {'+' if by_range else ''}_tenant = ?"
        return Fragment(f"{here} AND {found.text}", (self._tenant, *found.params))

    def prefix(self) -> Fragment:
        """`WITH ...` for what had to be cut out; stands before the SELECT, its values before the others."""
        if not self._tables:
            return Fragment("")
        text = ", ".join(f"_cut{n} AS MATERIALIZED ({cut.text})" for n, cut in enumerate(self._tables))
        return Fragment(f"WITH {text} ", tuple(value for cut in self._tables for value in cut.params))

    def order(self, owner: Collection, order: Sequence[OrderBy]) -> Fragment:
        """`ORDER BY ...`: missing last ascending and first descending, the key as the last tie-break."""
        parts: list[str] = []
        bound: list[Key] = []
        for item in order:
            ends = "DESC NULLS FIRST" if item.descending else "ASC NULLS LAST"
            if item.field == KEY:
                parts.append(f"_key {'DESC' if item.descending else 'ASC'}")
                break
            if self._scalar(owner, item.field):
                parts.append(f"{column(item.field)} {ends}")
            else:
                parts.append(f"(SELECT min(value) FROM _many WHERE id = _id AND path = ?) {ends}")
                bound.append(self._path_id(owner.name, item.field))
        else:
            parts.append("_key ASC")
        return Fragment("ORDER BY " + ", ".join(parts), tuple(bound))

    def _where(self, owner: Collection, where: Where, depth: int) -> Fragment:
        if depth > MAX_DEPTH and not isinstance(where, Compare):
            return self._with_subqueries_limited(owner, where)
        match where:
            case Compare(field, operator, value):
                return self._compare(owner, field, operator, value)
            case In(field, Subquery() as select):
                return self._within(owner, field, self._select(select, depth + MAX_SUBQUERY_DEPTH))
            case In(field, tuple() as values):
                return self._in(owner, field, values)
            case Not(Not(term)):
                return self._where(owner, term, depth)
            case Not(term):
                found = self._where(owner, term, depth + 1)
                return Fragment(f"NOT ifnull({found.text}, 0)", found.params)
            case And(terms):
                return self._joined(owner, terms, " AND ", "1", depth)
            case Or(terms):
                return self._joined(owner, terms, " OR ", "0", depth)
        raise TypeError(f"{where!r} is no condition")

    def _with_subqueries_limited(self, owner: Collection, where: Where) -> Fragment:
        found = self._where(owner, where, 0)
        bound = (self._tenant, *found.params)
        self._tables.append(
            Fragment(f"SELECT _id FROM {quote_identifier(owner.name)} WHERE _tenant = ? AND {found.text}", bound)
        )
        return Fragment(f"_id IN _cut{len(self._tables) - 1}")

    def _joined(self, owner: Collection, terms: Sequence[Where], word: str, empty: str, depth: int) -> Fragment:
        if len(terms) == 1:
            return self._where(owner, terms[0], depth)
        if not terms:
            return Fragment(empty)
        found = [self._where(owner, term, depth + 1) for term in terms]
        text = _tree([part.text for part in found], word)
        return Fragment(f"({text})", tuple(value for part in found for value in part.params))

    def _compare(self, owner: Collection, field: str, operator: str, value: Key) -> Fragment:
        def test(name: str) -> str:
            return f"instr({name}, ?) > 0" if operator == "~" else f"{name} {operator} ?"

        value = _bound(value)
        if self._scalar(owner, field):
            return Fragment(test(column(field)), (value,))
        path = self._path_id(owner.name, field)
        return Fragment(f"_id IN (SELECT id FROM _many WHERE path = ? AND {test('value')})", (path, value))

    def _in(self, owner: Collection, field: str, values: tuple[Key, ...]) -> Fragment:
        if not values:
            return Fragment("0")
        values = tuple(map(_bound, values))
        if len(values) <= MAX_PARAMS:
            return self._within(owner, field, Fragment(", ".join("?" * len(values)), values))
        # SQLite's JSON ends a string at a NUL, so values that hold one are bound on their own
        plain = [value for value in values if not (isinstance(value, str) and "\0" in value)]
        odd = tuple(value for value in values if isinstance(value, str) and "\0" in value)
        rows = Fragment("SELECT value FROM json_each(?)", (orjson.dumps(plain).decode(),))
        found = self._within(owner, field, rows)
        if not odd:
            return found
        others = self._joined(
            owner, [In(field, odd[n : n + MAX_PARAMS]) for n in range(0, len(odd), MAX_PARAMS)], " OR ", "0", 0
        )
        return Fragment(f"({found.text} OR {others.text})", found.params + others.params)

    def _within(self, owner: Collection, field: str, rows: Fragment) -> Fragment:
        if self._scalar(owner, field):
            return Fragment(f"{column(field)} IN ({rows.text})", rows.params)
        path = self._path_id(owner.name, field)
        return Fragment(
            f"_id IN (SELECT id FROM _many WHERE path = ? AND value IN ({rows.text}))", (path, *rows.params)
        )

    def _select(self, select: Subquery, depth: int) -> Fragment:
        other = self._collections[select.collection]
        found = self._where(other, select.where, depth)
        here = f"FROM {quote_identifier(other.name)} WHERE _tenant = ? AND {found.text}"
        bound = (self._tenant, *found.params)
        if self._scalar(other, select.field):
            return Fragment(f"SELECT {column(select.field)} {here}", bound)
        path = self._path_id(other.name, select.field)
        return Fragment(f"SELECT value FROM _many WHERE path = ? AND id IN (SELECT _id {here})", (path, *bound))

    @staticmethod
    def _scalar(owner: Collection, path: str) -> bool:
        field = owner.field_for(path)
        return not (field.multi_valued or field.is_dynamic)


def _bound(value: Key) -> Key:
    """Numbers are kept as REAL; SQLite's integers end at 64 bits."""
    return value if isinstance(value, str) else float(value)


def _tree(parts: list[str], word: str) -> str:
    while len(parts) > MAX_TERMS:
        groups = (parts[n : n + MAX_TERMS] for n in range(0, len(parts), MAX_TERMS))
        parts = [f"({word.join(group)})" for group in groups]
    return word.join(parts)
