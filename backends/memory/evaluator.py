"""Records in Python dictionaries, and the evaluation of the query tree on them.

What memory and JSON share. A `Table` is changed by one transaction only while nobody else can see it; from the commit
on nobody changes it again, so a snapshot is a reference.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from backends.base import Record, Value
from backends.query import KEY, And, Compare, In, Key, Not, Or, OrderBy, Query, Subquery, Where
from backends.records import normalize_value

__all__ = [
    "EMPTY_STATE",
    "State",
    "Table",
    "Test",
    "compile_condition",
    "has_match",
    "join_bodies",
    "matching_keys",
    "select",
]

Test: TypeAlias = Callable[[Record], bool]

CHUNK_RECORDS = 256
"""Documents that one chunk of a page holds at most."""


class Table:
    """The records of one collection by key, and their keys in order."""

    __slots__ = ("_order", "records")

    def __init__(self, records: dict[str, Record] | None = None) -> None:
        self.records: dict[str, Record] = {} if records is None else records
        self._order: list[str] | None = None

    def copy(self) -> Table:
        """A table of one's own to change; records are immutable and stay shared."""
        other = Table(self.records.copy())
        other._order = self._order
        return other

    def put(self, record: Record) -> None:
        """Store a copy of the record, so that what the caller does to its mapping later changes nothing here."""
        if record.key not in self.records:
            self._order = None
        values = {path: _kept(value) for path, value in record.values.items() if value is not None}
        self.records[record.key] = Record(record.key, bytes(record.body), values)

    def remove(self, key: str) -> bool:
        """Forget the record; whether there was one."""
        if self.records.pop(key, None) is None:
            return False
        self._order = None
        return True

    def sorted_keys(self) -> list[str]:
        """All keys by code point. The list is never changed, only replaced."""
        if self._order is None:
            self._order = sorted(self.records)
        return self._order


@dataclass(frozen=True, slots=True)
class State:
    """All that a tenant holds at one moment. `serial` is another one after each commit."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    revision: int = 0
    serial: int = 0

    def table(self, collection: str) -> Table:
        """The collection's table, an empty one when nothing was ever put."""
        return self.tables.get(collection) or _EMPTY


_EMPTY = Table()
EMPTY_STATE = State()


def select(state: State, query: Query) -> tuple[int, list[Record]]:
    """How many records match, and those of the asked page in order."""
    records = state.table(query.collection).records
    keys = matching_keys(state, query.collection, query.where)
    end = None if query.limit is None else query.offset + query.limit
    page = _ordered(keys, records, query.order)[query.offset : end]
    return len(keys), [records[key] for key in page]


def matching_keys(state: State, collection: str, where: Where) -> list[str]:
    """The keys of the matching records in key order."""
    table = state.table(collection)
    if where == And(()):
        return table.sorted_keys()
    test, records = compile_condition(where, state), table.records
    return [key for key in table.sorted_keys() if test(records[key])]


def has_match(state: State, collection: str, where: Where) -> bool:
    """Return True if a record of the collection matches."""
    return any(map(compile_condition(where, state), state.table(collection).records.values()))


def join_bodies(records: list[Record]) -> Iterator[bytes]:
    """The bodies in chunks, each of them documents joined by commas."""
    bodies = (record.body for record in records)
    while chunk := b",".join(islice(bodies, CHUNK_RECORDS)):
        yield chunk


def compile_condition(where: Where, state: State) -> Test:
    """The tree as one function of a record. The selects in it are evaluated once, now."""
    match where:
        case Compare(field, comparison, value):
            return _some(field, _comparison(comparison, normalize_value(value)))
        case In(field, values):
            asked = _values(values, state) if isinstance(values, Subquery) else frozenset(map(normalize_value, values))
            return _some(field, asked.__contains__)
        case Not(term):
            test = compile_condition(term, state)
            return lambda record: not test(record)
        case And(terms):
            every = [compile_condition(term, state) for term in terms]
            return lambda record: all(test(record) for test in every)
        case Or(terms):
            some = [compile_condition(term, state) for term in terms]
            return lambda record: any(test(record) for test in some)


def _comparison(comparison: str, value: Key) -> Callable[[Key], bool]:
    if comparison == "~":
        return lambda held: str(value) in str(held)
    relation = _RELATIONS[comparison]
    return lambda held: bool(relation(held, value))


# Any: the two sides are of one kind, text or number, which `validate` and `check_record` have made sure of.
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _some(field: str, holds: Callable[[Key], bool]) -> Test:
    """Whether some value of the field passes; a missing field has none."""
    if field == KEY:
        return lambda record: holds(record.key)

    def test(record: Record) -> bool:
        held = record.values.get(field)
        if isinstance(held, tuple):
            return any(holds(value) for value in held)
        return held is not None and holds(held)

    return test


def _values(select: Subquery, state: State) -> frozenset[Key]:
    records = state.table(select.collection).records
    keys = matching_keys(state, select.collection, select.where)
    return frozenset(value for key in keys for value in _held(records[key], select.field))


def _held(record: Record, field: str) -> tuple[Key, ...]:
    if field == KEY:
        return (record.key,)
    held = record.values.get(field)
    if isinstance(held, tuple):
        return held
    return () if held is None else (held,)


def _ordered(keys: list[str], records: Mapping[str, Record], order: Iterable[OrderBy]) -> list[str]:
    """From the last criterion to the first: sorting is stable, also when reversed, so the key stays the tie-break."""
    for criterion in reversed(tuple(order)):
        ranks = {key: _rank(_held(records[key], criterion.field)) for key in keys}
        keys = sorted(keys, key=ranks.__getitem__, reverse=criterion.descending)
    return keys


# Any: text or number, but one of the two throughout a field.
def _rank(held: tuple[Any, ...]) -> tuple[bool, Any]:
    return (False, min(held)) if held else (True, 0)


def _kept(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(map(normalize_value, value))
    return None if value is None else normalize_value(value)
