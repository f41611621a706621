"""What a store keeps: records in collections, and the fields by which they are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from backends.errors import InvalidQueryError
from backends.query import KEY, Key

__all__ = ["Collection", "Field", "Record", "Value", "normalize", "normalize_value"]

Value: TypeAlias = Key | tuple[Key, ...] | None


@dataclass(frozen=True, slots=True)
class Field:
    """One comparable path of a collection.

    A path that ends in `.*` is dynamic: it stands for every path with that beginning, holds text, and may hold many
    values. `indexed` is a hint that equality on the field should be fast, `common` that many records share each value,
    so that a page of them should come in key order without sorting.
    """

    path: str
    kind: Literal["text", "number"] = "text"
    multi_valued: bool = False
    indexed: bool = False
    low_cardinality: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Whether the path stands for a family of paths."""
        return self.path.endswith(".*")


@dataclass(frozen=True)
class Collection:
    """A named set of records and its fields, declared once.

    `served` collections move the tenant's revision when a commit touches them; others (tokens, bookkeeping) do not.
    """

    name: str
    fields: tuple[Field, ...] = ()
    bumps_revision: bool = True

    @cached_property
    def fields_by_path(self) -> Mapping[str, Field]:
        """The fields by path, the key among them."""
        return {KEY: Field(KEY, indexed=True)} | {f.path: f for f in self.fields}

    def has_field(self, path: str) -> bool:
        """Whether the path belongs to a field."""
        return path in self.fields_by_path or any(
            each.is_dynamic and path.startswith(each.path[:-1]) for each in self.fields
        )

    def field_for(self, path: str) -> Field:
        """The field a path belongs to, a dynamic one when it covers it. Raises InvalidQueryError for an unknown path."""
        if found := self.fields_by_path.get(path):
            return found
        for candidate in self.fields:
            if candidate.is_dynamic and path.startswith(candidate.path[:-1]):
                return candidate
        raise InvalidQueryError(f"collection {self.name!r} has no field {path!r}")


class Record(NamedTuple):
    """A document and how it is found.

    `body` is one JSON document in UTF-8 without raw line breaks or tabs (as any compact encoder writes it); it is
    given back byte for byte. `values` holds comparison keys by path: a tuple for a many-valued or dynamic field, None
    or nothing for a missing one. It may hold more than is served; paths that the collection does not declare are
    refused with InvalidQueryError.
    """

    key: str
    body: bytes
    values: Mapping[str, Value] = MappingProxyType({})


def normalize(record: Record, collection: Collection) -> Record:
    """The record with its values in one form.

    Numbers are floats, a field of many has a tuple without doubles, ascending, and nothing stands there for what is
    missing, empty or not declared.
    """
    kept: dict[str, Value] = {}
    for path, value in record.values.items():
        if value is None or value == () or not collection.has_field(path):
            continue
        field = collection.field_for(path)
        if field.multi_valued or field.is_dynamic:
            kept[path] = _ascending(value if isinstance(value, tuple) else (value,))
        elif not isinstance(value, tuple):
            kept[path] = normalize_value(value)
    return Record(record.key, record.body, kept)


# Any: text or number, but one of the two throughout a field.
def _ascending(values: tuple[Any, ...]) -> tuple[Key, ...]:
    return tuple(sorted(set(map(normalize_value, values))))


def normalize_value(value: Key) -> Key:
    """Numbers as floats, as every backend compares them."""
    return value if isinstance(value, str) else float(value)
