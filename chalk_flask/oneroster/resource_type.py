"""What follows from one Schema: columns, paths, stored fields, references, and the stored form of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import orjson
from marshmallow import Schema

from backends import Collection, Field, Record, Value
from chalk_flask.oneroster.fields.composites import MetadataField, RefField, RefListField, flatten
from chalk_flask.oneroster.fields.scalars import JSON, FilterPath, OneRosterField
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = [
    "NO_TIMESTAMP",
    "Column",
    "Reference",
    "ResourceType",
    "resolve_hrefs",
    "stamp_of",
    "with_timestamp",
    "without_timestamp",
]

NO_TIMESTAMP = "0000-00-00T00:00:00.000Z"
"""Stands for `dateLastModified` in a body that has no stamp yet; as long as a stamp."""

# Base elements come first in every body and a quote inside a string is escaped, so the first match is the stamp.
_STAMP = b'"dateLastModified":"'
_UNSTAMPED = _STAMP + NO_TIMESTAMP.encode()

# Stored bodies hold an escaped solidus where the absolute root belongs; our encoder writes none elsewhere.
_PLACE = b'"href":"\\/'
_OTHER_ESCAPE = re.compile(rb"\\[^/]")


def resolve_hrefs(chunk: bytes, root: str) -> bytes:
    """Stored bodies with the root in the places of references. Where no other escape occurs one byte finds them, ten
    times as fast."""
    start = orjson.dumps(root)[1:-1]
    if _OTHER_ESCAPE.search(chunk) is None:
        return chunk.replace(b"\\", start)
    return (b'"href":"' + start + b"/").join(chunk.split(_PLACE))


def stamp_of(body: bytes) -> str:
    """The `dateLastModified` of a stored body."""
    start = body.index(_STAMP) + len(_STAMP)
    return body[start : start + len(NO_TIMESTAMP)].decode()


def with_timestamp(body: bytes, stamp: str) -> bytes:
    """An unstamped body with its `dateLastModified`."""
    return body.replace(_UNSTAMPED, _STAMP + stamp.encode(), 1)


def without_timestamp(body: bytes) -> bytes:
    """The body as it is compared: without the moment of its last change."""
    start = body.index(_STAMP)
    return body[:start] + _UNSTAMPED + body[start + len(_UNSTAMPED) :]


class Column(NamedTuple):
    """A CSV column: its header, the JSON name of its element, and the element (None: read and ignored)."""

    header: str
    name: str
    field: OneRosterField | None


class Reference(NamedTuple):
    """An element that refers to other records: its JSON name, the stored field, and the collection it points to."""

    name: str
    field: str
    target: str
    element: RefField


@dataclass(frozen=True)
class ResourceType:
    """One class of the standard. `name` is its collection and CSV file, `single` the key of a single read.

    `key_of` names the collection whose ids this one shares; `ignored` are CSV columns that are never kept,
    `former_columns` pairs of a header in OneRoster 1.0 and today's.
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
        """The elements by JSON name, in the order of the body: base, own in CSV order, metadata last."""
        named = {cast(str, f.data_key): cast(OneRosterField, f) for f in self.schema.load_fields.values()}
        extension = named.pop("metadata")
        return named | {"metadata": extension}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The CSV columns in the order of the standard."""
        known = [
            Column(header, name, element)
            for name, element in self.fields.items()
            if (header := element.column_name(name)) is not None
        ]
        return (*known, *(Column(header, header, None) for header in self.ignored))

    @cached_property
    def filter_paths(self) -> dict[str, FilterPath]:
        """What a client may filter and sort by, by name; a dynamic path ends in `.*`."""
        return {path.name: path for name, element in self.fields.items() for path in element.filter_paths(name)}

    def filter_path(self, name: str) -> FilterPath | None:
        """The path of that name, if the class has it."""
        if found := self.filter_paths.get(name):
            return found if not name.endswith(".*") else None
        dynamic = next(
            (p for p in self.filter_paths.values() if p.name.endswith(".*") and name.startswith(p.name[:-1])), None
        )
        return FilterPath(name, name) if dynamic and len(name) > len(dynamic.name) - 1 else None

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The elements that point to records, derived ones among them."""
        return tuple(
            Reference(name, element.storage_fields(name)[0].path, element.target, element)
            for name, element in self.fields.items()
            if isinstance(element, RefField)
        )

    @cached_property
    def derived_fields(self) -> dict[str, RefListField]:
        """The elements that no CSV column carries because other rows imply them, by JSON name."""
        return {n: e for n, e in self.fields.items() if isinstance(e, RefListField) and e.column is None}

    def missing_required(self, data: Mapping[str, JSON]) -> str:
        """The element that other values make necessary and that the object has not, by JSON name; empty if none."""
        for name, element in self.fields.items():
            if element.unless and name not in data and data.get(element.unless[0]) != element.unless[1]:
                return name
        return ""

    @cached_property
    def always_present(self) -> tuple[str, ...]:
        """The arrays that are there even when empty."""
        return tuple(name for name, element in self.fields.items() if element.always)

    @cached_property
    def collection(self) -> Collection:
        """How storage sees it."""
        stored: Iterable[Field] = (f for name, element in self.fields.items() for f in element.storage_fields(name))
        return Collection(self.name, tuple(stored), bumps_revision=self.served)

    def record(self, data: Mapping[str, JSON]) -> Record:
        """The stored form of an object whose values are normal (references: the ids alone; lists of them too)."""
        body: dict[str, JSON] = {}
        values: dict[str, Value] = {}
        for name, element in self.fields.items():
            value = data.get(name)
            if value in (None, "", [], {}):
                value = data.get(element.fallback)
            if value not in (None, "", [], {}):
                body[name] = element.to_json(value)
                values.update(self.comparison_keys(name, element, value))
            elif element.always:
                body[name] = []
        return Record(cast(str, data["sourcedId"]), orjson.dumps(body), values)

    def comparison_keys(self, name: str, element: OneRosterField, value: JSON) -> Iterator[tuple[str, Value]]:
        """The comparison keys of one element's normal value, by stored field."""
        if isinstance(element, MetadataField):
            gathered: dict[str, dict[Value, None]] = {}
            for path, key in flatten(name, value):
                gathered.setdefault(path, {})[key] = None
            yield from ((path, cast(Value, tuple(keys))) for path, keys in gathered.items())
        else:
            yield from zip((f.path for f in element.storage_fields(name)), element.comparison_keys(value), strict=True)

    def normalize(self, body: bytes) -> dict[str, JSON]:
        """The normal values of a stored body. Raises marshmallow.ValidationError when it is not in stored form."""
        return {
            cast(str, self.schema.load_fields[name].data_key): value
            for name, value in cast("dict[str, JSON]", self.schema.load(orjson.loads(body))).items()
        }

    def tombstone(self, body: bytes) -> Record:
        """The record of a stored body once it is deleted: the same but for its status, and nobody's parent."""
        data = self.normalize(body) | {"status": TO_BE_DELETED}
        return self.record({name: value for name, value in data.items() if name not in self.derived_fields})

    @staticmethod
    def is_active(body: bytes) -> bool:
        """Whether a stored body is that of an active record."""
        return body.find(b'"status":"%s","dateLastModified"' % ACTIVE.encode()) >= 0

    @staticmethod
    def referenced_ids(value: JSON) -> list[str]:
        """Return the ids in a reference or a list of references of a body; none for None."""
        if value is None:
            return []
        return [reference["sourcedId"] for reference in (value if isinstance(value, list) else [value])]
