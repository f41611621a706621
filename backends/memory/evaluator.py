"""Tables of records in memory, and evaluation of the query tree on them. Shared by the memory and JSON backends.

A transaction changes only tables that no other thread can see. A committed table never changes again, so a snapshot
is just a reference to it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backends.base import MAX_CHUNK_BYTES, Record, Value
from backends.batching import batched_by_size
from backends.deadline import QueryDeadline
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
from backends.records import normalize_value

__all__ = [
    "NO_TABLES",
    "Predicate",
    "Table",
    "TenantTables",
    "compile_condition",
    "evaluate",
    "has_match",
    "join_bodies",
    "matching_keys",
]

Predicate: TypeAlias = Callable[[Record], bool]

_MAX_CHUNK_RECORDS = 256
"""Maximum number of documents in one chunk of a page."""

_LONG_TEXT_LENGTH = 512
"""Length in characters above which the search in a text checks the deadline."""


class Table:
    """Records of one collection by key, with the sorted keys cached."""

    __slots__ = ("_sorted_keys", "records")

    def __init__(self, records: dict[str, Record] | None = None) -> None:
        self.records: dict[str, Record] = {} if records is None else records
        self._sorted_keys: list[str] | None = None

    def copy(self) -> Table:
        """Return a copy that can be changed. The records are immutable and shared."""
        copied = Table(self.records.copy())
        copied._sorted_keys = self._sorted_keys
        return copied

    def put(self, record: Record) -> None:
        """Store a copy of the record. Later changes of its `values` mapping have no effect."""
        if record.key not in self.records:
            self._sorted_keys = None
        values = {path: _normalized(value) for path, value in record.values.items() if value is not None}
        self.records[record.key] = Record(record.key, bytes(record.body), values)

    def remove(self, key: str) -> bool:
        """Delete the record. Returns False if there is none."""
        if self.records.pop(key, None) is None:
            return False
        self._sorted_keys = None
        return True

    def sorted_keys(self) -> list[str]:
        """Return all keys, sorted by code point. The list is never changed, only replaced."""
        if self._sorted_keys is None:
            self._sorted_keys = sorted(self.records)
        return self._sorted_keys


@dataclass(frozen=True, slots=True)
class TenantTables:
    """All records of a tenant at one point in time. Each commit raises `serial`."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    revision: int = 0
    serial: int = 0

    def table(self, collection: str) -> Table:
        """Return the collection's table; an empty one if no record was ever put."""
        return self.tables.get(collection) or _EMPTY_TABLE


_EMPTY_TABLE = Table()
NO_TABLES = TenantTables()


def evaluate(state: TenantTables, query: Query, deadline: QueryDeadline) -> tuple[int, list[Record]]:
    """Return the total of the page, and its records in order. Raises QueryTimeoutError."""
    records = state.table(query.collection).records
    keys = matching_keys(state, query.collection, query.where, deadline)
    end = None if query.limit is None else query.offset + query.limit
    page = _sort(keys, records, query.order, deadline)[query.offset : end]
    return query.limited_total(len(keys)), [records[key] for key in page]


def matching_keys(state: TenantTables, collection: str, where: Where, deadline: QueryDeadline) -> list[str]:
    """Return the keys of the matching records in key order. Raises QueryTimeoutError."""
    table = state.table(collection)
    if where == MATCH_ALL:
        return table.sorted_keys()
    matches, records = compile_condition(where, state, deadline), table.records
    return [key for key in deadline.limit(table.sorted_keys()) if matches(records[key])]


def has_match(state: TenantTables, collection: str, where: Where, deadline: QueryDeadline) -> bool:
    """Return True if a record of the collection matches. Raises QueryTimeoutError."""
    records = deadline.limit(state.table(collection).records.values())
    return any(map(compile_condition(where, state, deadline), records))


def join_bodies(records: list[Record]) -> Iterator[bytes]:
    """Return an iterator over the bodies in chunks of documents joined by commas."""
    bodies = (record.body for record in records)
    return map(b",".join, batched_by_size(bodies, _length_with_comma, _MAX_CHUNK_RECORDS, MAX_CHUNK_BYTES))


def _length_with_comma(body: bytes) -> int:
    return len(body) + 1


def compile_condition(where: Where, state: TenantTables, deadline: QueryDeadline) -> Predicate:
    """Return a predicate that is True for the records that match. Subqueries are evaluated once, now."""
    match where:
        case Compare(field, comparison, value):
            return _any_value(field, _comparison(comparison, normalize_value(value), deadline))
        case In(field, values):
            options = (
                _subquery_values(values, state, deadline)
                if isinstance(values, Subquery)
                else frozenset(map(normalize_value, values))
            )
            return _any_value(field, options.__contains__)
        case Not(term):
            test = compile_condition(term, state, deadline)
            return lambda record: not test(record)
        case And(terms):
            tests = [compile_condition(term, state, deadline) for term in terms]
            return lambda record: all(test(record) for test in tests)
        case Or(terms):
            tests = [compile_condition(term, state, deadline) for term in terms]
            return lambda record: any(test(record) for test in tests)


def _comparison(comparison: str, value: Scalar, deadline: QueryDeadline) -> Callable[[Scalar], bool]:
    if comparison == "~":
        return _search(str(value), deadline)
    relation = _RELATIONS[comparison]
    return lambda stored: bool(relation(stored, value))


def _search(value: str, deadline: QueryDeadline) -> Callable[[Scalar], bool]:
    """Return a predicate that is True for texts that contain the value. It checks the deadline after each long text."""

    def contains(stored: Scalar) -> bool:
        text = str(stored)
        found = value in text
        if len(text) > _LONG_TEXT_LENGTH:
            deadline.check()
        return found

    return contains


# Any: both sides are text or both are numbers; `validate` and `check_record` reject anything else.
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _any_value(field: str, matches: Callable[[Scalar], bool]) -> Predicate:
    """Return a predicate that is True if a value of the field matches. A missing field has no value."""
    if field == KEY:
        return lambda record: matches(record.key)
    if field == FOLDED_KEY:
        return lambda record: matches(record.key.casefold())

    def test(record: Record) -> bool:
        value = record.values.get(field)
        if isinstance(value, tuple):
            return any(map(matches, value))
        return value is not None and matches(value)

    return test


def _subquery_values(subquery: Subquery, state: TenantTables, deadline: QueryDeadline) -> frozenset[Scalar]:
    records = state.table(subquery.collection).records
    keys = matching_keys(state, subquery.collection, subquery.where, deadline)
    return frozenset(value for key in keys for value in _values(records[key], subquery.field))


def _values(record: Record, field: str) -> tuple[Scalar, ...]:
    if field in (KEY, FOLDED_KEY):
        return (record.key if field == KEY else record.key.casefold(),)
    value = record.values.get(field)
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def _sort(
    keys: list[str], records: Mapping[str, Record], order: Iterable[OrderBy], deadline: QueryDeadline
) -> list[str]:
    """Sort by the last criterion first. Sorting is stable, also in reverse, so the key order decides ties."""
    for criterion in reversed(tuple(order)):
        sort_keys = {key: _sort_key(_values(records[key], criterion.field)) for key in deadline.limit(keys)}
        keys = sorted(keys, key=sort_keys.__getitem__, reverse=criterion.descending)
    return keys


# Any: all values of a field are text, or all are numbers.
def _sort_key(values: tuple[Any, ...]) -> tuple[bool, Any]:
    return (False, min(values)) if values else (True, 0)


def _normalized(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(map(normalize_value, value))
    return None if value is None else normalize_value(value)
