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

from backends.query import KEY, AllOf, Among, AnyOf, Compare, Key, Not, Order, Select, Where
from backends.records import Collection

__all__ = ["SQL", "Compiler", "column", "depends_on", "found_by_range", "quoted"]

MAX_DEPTH = 10
"""Deeper trees are cut into common table expressions: SQLite's parser has a stack of 100 entries."""

SELECT_DEPTH = 4
"""How deep a question within a question counts: it takes some 18 entries of that stack, other nodes six at most."""

MAX_TERMS = 200
"""More alternatives than this are joined as a tree: the depth of an expression is limited to 1,000."""

RANGES = ("<", "<=", ">", ">=")

MAX_BOUND = 200
"""Longer lists of values are bound as one JSON array: the number of parameters is limited."""


@dataclass(frozen=True, slots=True)
class SQL:
    """A piece of SQL and what is bound to it, in order."""

    text: str
    bound: tuple[Key, ...] = ()


def quoted(name: str) -> str:
    """A name as SQL writes an identifier."""
    return '"' + name.replace('"', '""') + '"'


def column(path: str) -> str:
    """The column of a scalar field."""
    return '"_key"' if path == KEY else quoted(path)


def depends_on(where: Where) -> set[str]:
    """The other collections that a condition looks into."""
    match where:
        case Among(_, Select(collection, _, inner)):
            return {collection} | depends_on(inner)
        case Not(term):
            return depends_on(term)
        case AllOf(terms) | AnyOf(terms):
            return set().union(*map(depends_on, terms))
        case _:
            return set()


def found_by_range(owner: Collection, where: Where) -> str | None:
    """The indexed field whose range is what a condition has to offer, when nothing in it finds fewer at once."""
    ranged = None
    for term in _terms(where):
        if not isinstance(term, Compare | Among):
            continue
        held = owner.field(term.field)
        if term.field == KEY or held.many or held.dynamic:
            return None
        if held.indexed and isinstance(term, Compare) and term.operator in RANGES:
            ranged = term.field
        elif held.indexed:
            return None
    return ranged


def _terms(where: Where) -> Iterator[Where]:
    """What all must hold, whatever is nested how."""
    if isinstance(where, AllOf):
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
        self._tables: list[SQL] = []

    def rows(self, owner: Collection, where: Where, *, by_range: bool = False) -> SQL:
        """`FROM ... WHERE ...` for the records of this tenant that match.

        `by_range` keeps SQLite from going through all keys of the tenant, so that it takes the index of the range.
        """
        found = self._where(owner, where, 0)
        here = f"FROM {quoted(owner.name)} WHERE {'+' if by_range else ''}_tenant = ?"
        return SQL(f"{here} AND {found.text}", (self._tenant, *found.bound))

    def prefix(self) -> SQL:
        """`WITH ...` for what had to be cut out; stands before the SELECT, its values before the others."""
        if not self._tables:
            return SQL("")
        text = ", ".join(f"_cut{n} AS MATERIALIZED ({cut.text})" for n, cut in enumerate(self._tables))
        return SQL(f"WITH {text} ", tuple(value for cut in self._tables for value in cut.bound))

    def order(self, owner: Collection, order: Sequence[Order]) -> SQL:
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
        return SQL("ORDER BY " + ", ".join(parts), tuple(bound))

    def _where(self, owner: Collection, where: Where, depth: int) -> SQL:
        if depth > MAX_DEPTH and not isinstance(where, Compare):
            return self._cut(owner, where)
        match where:
            case Compare(field, operator, value):
                return self._compare(owner, field, operator, value)
            case Among(field, Select() as select):
                return self._within(owner, field, self._select(select, depth + SELECT_DEPTH))
            case Among(field, tuple() as values):
                return self._among(owner, field, values)
            case Not(Not(term)):
                return self._where(owner, term, depth)
            case Not(term):
                found = self._where(owner, term, depth + 1)
                return SQL(f"NOT ifnull({found.text}, 0)", found.bound)
            case AllOf(terms):
                return self._joined(owner, terms, " AND ", "1", depth)
            case AnyOf(terms):
                return self._joined(owner, terms, " OR ", "0", depth)
        raise TypeError(f"{where!r} is no condition")

    def _cut(self, owner: Collection, where: Where) -> SQL:
        found = self._where(owner, where, 0)
        bound = (self._tenant, *found.bound)
        self._tables.append(SQL(f"SELECT _id FROM {quoted(owner.name)} WHERE _tenant = ? AND {found.text}", bound))
        return SQL(f"_id IN _cut{len(self._tables) - 1}")

    def _joined(self, owner: Collection, terms: Sequence[Where], word: str, empty: str, depth: int) -> SQL:
        if len(terms) == 1:
            return self._where(owner, terms[0], depth)
        if not terms:
            return SQL(empty)
        found = [self._where(owner, term, depth + 1) for term in terms]
        text = _tree([part.text for part in found], word)
        return SQL(f"({text})", tuple(value for part in found for value in part.bound))

    def _compare(self, owner: Collection, field: str, operator: str, value: Key) -> SQL:
        def test(name: str) -> str:
            return f"instr({name}, ?) > 0" if operator == "~" else f"{name} {operator} ?"

        value = _bound(value)
        if self._scalar(owner, field):
            return SQL(test(column(field)), (value,))
        path = self._path_id(owner.name, field)
        return SQL(f"_id IN (SELECT id FROM _many WHERE path = ? AND {test('value')})", (path, value))

    def _among(self, owner: Collection, field: str, values: tuple[Key, ...]) -> SQL:
        if not values:
            return SQL("0")
        values = tuple(map(_bound, values))
        if len(values) <= MAX_BOUND:
            return self._within(owner, field, SQL(", ".join("?" * len(values)), values))
        # SQLite's JSON ends a string at a NUL, so values that hold one are bound on their own
        plain = [value for value in values if not (isinstance(value, str) and "\0" in value)]
        odd = tuple(value for value in values if isinstance(value, str) and "\0" in value)
        rows = SQL("SELECT value FROM json_each(?)", (orjson.dumps(plain).decode(),))
        found = self._within(owner, field, rows)
        if not odd:
            return found
        others = self._joined(
            owner, [Among(field, odd[n : n + MAX_BOUND]) for n in range(0, len(odd), MAX_BOUND)], " OR ", "0", 0
        )
        return SQL(f"({found.text} OR {others.text})", found.bound + others.bound)

    def _within(self, owner: Collection, field: str, rows: SQL) -> SQL:
        if self._scalar(owner, field):
            return SQL(f"{column(field)} IN ({rows.text})", rows.bound)
        path = self._path_id(owner.name, field)
        return SQL(f"_id IN (SELECT id FROM _many WHERE path = ? AND value IN ({rows.text}))", (path, *rows.bound))

    def _select(self, select: Select, depth: int) -> SQL:
        other = self._collections[select.collection]
        found = self._where(other, select.where, depth)
        here = f"FROM {quoted(other.name)} WHERE _tenant = ? AND {found.text}"
        bound = (self._tenant, *found.bound)
        if self._scalar(other, select.field):
            return SQL(f"SELECT {column(select.field)} {here}", bound)
        path = self._path_id(other.name, select.field)
        return SQL(f"SELECT value FROM _many WHERE path = ? AND id IN (SELECT _id {here})", (path, *bound))

    @staticmethod
    def _scalar(owner: Collection, path: str) -> bool:
        field = owner.field(path)
        return not (field.many or field.dynamic)


def _bound(value: Key) -> Key:
    """Numbers are kept as REAL; SQLite's integers end at 64 bits."""
    return value if isinstance(value, str) else float(value)


def _tree(parts: list[str], word: str) -> str:
    while len(parts) > MAX_TERMS:
        groups = (parts[n : n + MAX_TERMS] for n in range(0, len(parts), MAX_TERMS))
        parts = [f"({word.join(group)})" for group in groups]
    return word.join(parts)
