"""Resource type: columns, filter paths, stored fields, references and the stored form, all derived from one Schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import orjson
from marshmallow import Schema, ValidationError

from backends import Collection, Field, Record, Value, limit_dynamic_values
from chalk_flask.oneroster.fields.composites import MetadataField, RefField, RefListField, flatten
from chalk_flask.oneroster.fields.scalars import JSON, FilterPath, OneRosterField
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = [
    "NO_TIMESTAMP",
    "Column",
    "Reference",
    "ResourceType",
    "timestamp_setter",
    "with_timestamp",
    "without_timestamp",
]

NO_TIMESTAMP = "0000-00-00T00:00:00.000Z"
"""Placeholder for `dateLastModified` in a body without a timestamp, of the same length."""

# Base fields come first in every body and quotes in strings are escaped, so the first match is the timestamp.
_TIMESTAMP_START = b'"dateLastModified":"'
_WITHOUT_TIMESTAMP = _TIMESTAMP_START + NO_TIMESTAMP.encode()


def with_timestamp(body: bytes, timestamp: str) -> bytes:
    """Return a body without a timestamp with this `dateLastModified`."""
    return timestamp_setter(timestamp)(body)


def timestamp_setter(timestamp: str) -> Callable[[bytes], bytes]:
    """Return a function that does `with_timestamp` for many bodies."""
    member = _TIMESTAMP_START + timestamp.encode()
    return lambda body: body.replace(_WITHOUT_TIMESTAMP, member, 1)


def without_timestamp(body: bytes) -> bytes:
    """Return the body with NO_TIMESTAMP as `dateLastModified`, for comparison."""
    start = body.index(_TIMESTAMP_START)
    return body[:start] + _WITHOUT_TIMESTAMP + body[start + len(_WITHOUT_TIMESTAMP) :]


class Column(NamedTuple):
    """CSV column: header, JSON name and field. A column without a field is ignored."""

    header: str
    name: str
    field: OneRosterField | None


class Reference(NamedTuple):
    """Field that refers to other records: JSON name, path of the stored field, target collection, field type."""

    name: str
    field: str
    target: str
    field_type: RefField


@dataclass(frozen=True)
class ResourceType:
    """Class of the standard. `name` is its collection and CSV file, `singular_name` the key of a single object.

    `served` is False for link files, which no client reads. `shares_ids_with` is the collection with the same ids.
    `ignored` are CSV columns that are not stored. `former_columns` are pairs of headers in OneRoster 1.0 and 1.1.
    """

    name: str
    singular_name: str
    schema: Schema
    served: bool = True
    shares_ids_with: str = ""
    ignored: tuple[str, ...] = ()
    former_columns: tuple[tuple[str, str], ...] = ()

    @cached_property
    def fields(self) -> dict[str, OneRosterField]:
        """Fields by JSON name in the order of a body: base fields, own fields in CSV order, metadata."""
        named = {cast(str, f.data_key): cast(OneRosterField, f) for f in self.schema.load_fields.values()}
        extension = named.pop("metadata")
        return named | {"metadata": extension}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """CSV columns in the order of the standard."""
        columns = [
            Column(header, name, field)
            for name, field in self.fields.items()
            if (header := field.column_name(name)) is not None
        ]
        return (*columns, *(Column(header, header, None) for header in self.ignored))

    @cached_property
    def filter_paths(self) -> dict[str, FilterPath]:
        """Filter paths by name. A dynamic path ends in `.*`."""
        return {path.name: path for name, field in self.fields.items() for path in field.filter_paths(name)}

    def filter_path(self, name: str) -> FilterPath | None:
        """Return the filter path of this name, or None."""
        if path := self.filter_paths.get(name):
            return path if not name.endswith(".*") else None
        dynamic = next(
            (p for p in self.filter_paths.values() if p.name.endswith(".*") and name.startswith(p.name[:-1])), None
        )
        return FilterPath(name, name) if dynamic and len(name) > len(dynamic.name) - 1 else None

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """References to other records, including derived ones."""
        return tuple(
            Reference(name, field.storage_fields(name)[0].path, field.target, field)
            for name, field in self.fields.items()
            if isinstance(field, RefField)
        )

    @cached_property
    def derived_fields(self) -> dict[str, RefListField]:
        """Fields without a CSV column, which are derived from other rows, by JSON name."""
        return {
            name: field
            for name, field in self.fields.items()
            if isinstance(field, RefListField) and field.column is None
        }

    def missing_required(self, data: Mapping[str, JSON]) -> str:
        """Return the JSON name of a missing field that is required by other values; an empty text if there is none."""
        for name, field in self.fields.items():
            if field.optional_if and name not in data and data.get(field.optional_if[0]) not in field.optional_if[1]:
                return name
        return ""

    @cached_property
    def always_present(self) -> tuple[str, ...]:
        """Names of the arrays that are sent even if they are empty."""
        return tuple(name for name, field in self.fields.items() if field.always_present)

    @cached_property
    def collection(self) -> Collection:
        """Collection that stores the records."""
        stored: Iterable[Field] = (f for name, field in self.fields.items() for f in field.storage_fields(name))
        return Collection(
            self.name,
            tuple(stored),
            bumps_revision=self.served,
            values_of=self.values_of,
            # Most records of an import are enrollments, which have no texts of their own.
            tracks_escapes=self.served and self.name != "enrollments",
        )

    def values_of(self, body: bytes) -> dict[str, Value]:
        """Return the comparison keys of a stored body, as `record` computes them. Raises ValueError."""
        values: dict[str, Value] = {}
        try:
            for name, value in orjson.loads(body).items():
                field = self.fields.get(name)
                if field is not None and value not in ("", [], {}):
                    values.update(self.comparison_keys(name, field, field.normalize(value)))
        except (ValidationError, AttributeError, TypeError, KeyError) as error:
            raise ValueError(f"not a record of {self.name}") from error
        return values

    def record(self, data: Mapping[str, JSON]) -> Record:
        """Return the record of an object with normalized values. References are ids or lists of ids."""
        body: dict[str, JSON] = {}
        values: dict[str, Value] = {}
        for name, field in self.fields.items():
            value = data.get(name)
            if value in (None, "", [], {}):
                value = data.get(field.fallback)
            if value not in (None, "", [], {}):
                body[name] = field.to_json(value)
                values.update(self.comparison_keys(name, field, value))
            elif field.always_present:
                body[name] = []
        limited = limit_dynamic_values(values, self.collection) if "metadata" in body else values
        return Record(cast(str, data["sourcedId"]), orjson.dumps(body), limited)

    def comparison_keys(self, name: str, field: OneRosterField, value: JSON) -> Iterator[tuple[str, Value]]:
        """Yield stored field and comparison key of a normalized value of one field."""
        if isinstance(field, MetadataField):
            keys_by_path: dict[str, dict[Value, None]] = {}
            for path, key in flatten(name, value):
                keys_by_path.setdefault(path, {})[key] = None
            yield from ((path, cast(Value, tuple(keys))) for path, keys in keys_by_path.items())
        else:
            yield from zip((f.path for f in field.storage_fields(name)), field.comparison_keys(value), strict=True)

    def normalize(self, body: bytes) -> dict[str, JSON]:
        """Return the normalized values of a stored body. Raises marshmallow.ValidationError if it is invalid."""
        return {
            cast(str, self.schema.load_fields[name].data_key): value
            for name, value in cast("dict[str, JSON]", self.schema.load(orjson.loads(body))).items()
        }

    def tombstone(self, body: bytes) -> Record:
        """Return the tombstone of a stored body: status `tobedeleted`, without derived fields."""
        data = self.normalize(body) | {"status": TO_BE_DELETED}
        return self.record({name: value for name, value in data.items() if name not in self.derived_fields})

    @staticmethod
    def is_active(body: bytes) -> bool:
        """Return True if a stored body is that of an active record."""
        return body.find(b'"status":"%s","dateLastModified"' % ACTIVE.encode()) >= 0

    @staticmethod
    def referenced_ids(value: JSON) -> list[str]:
        """Return the ids in a reference or a list of references of a body; none for None."""
        if value is None:
            return []
        return [reference["sourcedId"] for reference in (value if isinstance(value, list) else [value])]
