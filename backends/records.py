"""Records, and the collections and fields that a store declares for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from backends.errors import InvalidQueryError
from backends.query import FOLDED_KEY, KEY, Scalar

__all__ = [
    "MAX_DYNAMIC_PATH_LENGTH",
    "MAX_DYNAMIC_VALUES",
    "Collection",
    "Field",
    "Record",
    "Value",
    "limit_dynamic_values",
    "normalize",
    "normalize_value",
]

MAX_DYNAMIC_VALUES = 2_000
"""Maximum number of values of one record in dynamic fields. Each value takes a row or an index entry of its own."""

MAX_DYNAMIC_PATH_LENGTH = 131_072
"""Maximum length in characters of all paths of one record in dynamic fields together. A backend stores each path."""

Value: TypeAlias = Scalar | tuple[Scalar, ...] | None
"""Comparison key of a field; a tuple of keys for a multi-valued field, None for a missing one."""


@dataclass(frozen=True, slots=True)
class Field:
    """Path that a collection declares, so that queries can compare its values.

    A path that ends in `.*` is dynamic: it declares every path with that prefix as text with any number of values.
    `indexed` requests fast equality from the backend. `low_cardinality` means that many records share a value: a
    backend should then return them in key order without sorting.
    """

    path: str
    kind: Literal["text", "number"] = "text"
    multi_valued: bool = False
    indexed: bool = False
    low_cardinality: bool = False

    @property
    def is_dynamic(self) -> bool:
        """True if the path declares all paths with its prefix."""
        return self.path.endswith(".*")

    @property
    def is_scalar(self) -> bool:
        """True if the field holds at most one value."""
        return not (self.multi_valued or self.is_dynamic)


@dataclass(frozen=True)
class Collection:
    """Declaration of a named set of records.

    A commit that writes to a collection with `bumps_revision` raises the tenant's revision. Each of `combined_indexes`
    names scalar fields. With one value in each of them, records are to be found, counted and listed in the order
    of their keys, without reading others. A backend may ignore it. `values_of` returns the
    values of a record with this body. It raises ValueError for a body that it cannot read. With it, a store can compare
    the values with the bodies, and rebuild them (`backends.repair`). None means that the body does not determine them.
    Records of a collection without `is_copied` belong to one store: `copy_store` leaves them out. It also leaves out
    the records for which `is_record_copied` returns False. `tracks_escapes` requests that the backend knows which
    bodies have JSON escapes other than `\\/`, for `Page.has_escapes`. A backend may ignore it.
    """

    name: str
    fields: tuple[Field, ...] = ()
    bumps_revision: bool = True
    combined_indexes: tuple[tuple[str, ...], ...] = ()
    values_of: Callable[[bytes], Mapping[str, Value]] | None = field(default=None, compare=False)
    is_copied: bool = field(default=True, compare=False)
    is_record_copied: Callable[[Record], bool] | None = field(default=None, compare=False)
    tracks_escapes: bool = False

    @cached_property
    def fields_by_path(self) -> Mapping[str, Field]:
        """Fields by path, including `KEY` and `FOLDED_KEY`, without dynamic fields."""
        static = {field.path: field for field in self.fields if not field.is_dynamic}
        return {KEY: Field(KEY, indexed=True), FOLDED_KEY: Field(FOLDED_KEY)} | static

    def has_field(self, path: str) -> bool:
        """Return True if a field declares the path."""
        return path in self.fields_by_path or any(
            field.is_dynamic and path.startswith(field.path[:-1]) for field in self.fields
        )

    def field_for(self, path: str) -> Field:
        """Return the field that declares the path. Raises InvalidQueryError for an undeclared path."""
        if field := self.fields_by_path.get(path):
            return field
        for field in self.fields:
            if field.is_dynamic and path.startswith(field.path[:-1]):
                return field
        raise InvalidQueryError(f"collection {self.name!r} has no field {path!r}")


class Record(NamedTuple):
    """Document with its key and comparison keys.

    `body` is one JSON document in UTF-8 without raw line breaks or tabs, as compact encoders write it. The store
    returns it byte for byte. `values` maps paths to comparison keys, which need not occur in the body. A tuple
    belongs to a multi-valued or dynamic field. Absent paths and None mean a missing field.
    """

    key: str
    body: bytes
    values: Mapping[str, Value] = MappingProxyType({})


def limit_dynamic_values(values: Mapping[str, Value], owner: Collection) -> dict[str, Value]:
    """Return the values without those of dynamic fields that exceed the limits of a record.

    Records of earlier versions may exceed them. The first values are kept, in the order of the mapping. Queries do not
    find the others, which are still in the body.
    """
    limited: dict[str, Value] = {}
    count, length = MAX_DYNAMIC_VALUES, MAX_DYNAMIC_PATH_LENGTH
    for path, value in values.items():
        if path in owner.fields_by_path or value is None:
            limited[path] = value
            continue
        kept = (value if isinstance(value, tuple) else (value,))[:count]
        if kept and len(path) <= length:
            limited[path] = kept
            count -= len(kept)
            length -= len(path)
    return limited


def normalize(record: Record, collection: Collection) -> Record:
    """Return the record with its values in canonical form.

    Numbers are floats. Multi-valued fields have a sorted tuple without duplicates. Missing, empty and undeclared
    values are omitted.
    """
    values: dict[str, Value] = {}
    for path, value in record.values.items():
        if value is None or value == () or not collection.has_field(path):
            continue
        if not collection.field_for(path).is_scalar:
            values[path] = _normalize_many(value if isinstance(value, tuple) else (value,))
        elif not isinstance(value, tuple):
            values[path] = normalize_value(value)
    return Record(record.key, record.body, values)


# Any: all values of a field are text, or all are numbers.
def _normalize_many(values: tuple[Any, ...]) -> tuple[Scalar, ...]:
    return tuple(sorted(set(map(normalize_value, values))))


def normalize_value(value: Scalar) -> Scalar:
    """Return a number as float and text unchanged."""
    return value if isinstance(value, str) else float(value)
