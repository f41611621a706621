"""Field types with several values or references to other records: lists, references, user ids, metadata."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from marshmallow import ValidationError

from backends import Field, Scalar, Value
from chalk_flask.oneroster.fields.base import CellCache, FastParser
from chalk_flask.oneroster.fields.scalars import (
    JSON,
    FilterPath,
    GuidField,
    OneRosterField,
    fold,
    id_from_cell,
    is_valid_id_cell,
    plain_text,
    printable,
)

__all__ = [
    "MAX_METADATA_PATH_LENGTH",
    "MAX_METADATA_VALUES",
    "EnumListField",
    "MetadataField",
    "RefField",
    "RefListField",
    "TextListField",
    "UserIdsField",
    "exceeded_limit",
    "exceeded_metadata_limit",
    "flatten",
    "longest_metadata_text",
    "metadata_key",
    "split_ids",
    "split_list",
]


MAX_METADATA_VALUES = 500
"""Maximum number of values in the metadata that a writer sends, or that a row fills.

A backend finds four times as many, because several writers can each store as many in one record. Each of them sees its
own part of the metadata (docs/conformance, W-05).
"""

MAX_METADATA_PATH_LENGTH = 32_768
"""Maximum length in characters of the paths to these values together. A backend takes four times as many here too."""

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")
"""Ids that need no escape in a URL or in JSON."""


def split_list(cell: str) -> list[str]:
    """Return the items of a list cell, trimmed and without empty items (CSV tables 1.1, lists)."""
    return [item for part in cell.split(",") if (item := part.strip())]


def split_ids(cell: str) -> list[str]:
    """Return the ids of a list cell. Only plain blanks around them are removed (docs/conformance, I-35)."""
    return [item for part in cell.split(",") if (item := part.strip(string.whitespace))]


class TextListField(OneRosterField):
    """List of texts, separated by commas in CSV."""

    repeats = True

    def __init__(self, *, expected: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.expected = frozenset(expected)
        """Tokens that the standard lists. Other tokens are stored, with a warning on import."""

    def from_cell(self, cell: str) -> JSON:
        return [self.item(item) for item in split_list(cell)]

    def normalize(self, value: JSON) -> JSON:
        if not isinstance(value, list):
            raise ValidationError(f"{printable(value)} is not a list")
        return [self.item(item) for item in value]

    def to_cell(self, value: JSON) -> str:
        return ",".join(value)

    def item(self, value: JSON) -> str:
        """Return one item in the form that is stored. Raises ValidationError."""
        return plain_text(value)

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, multi_valued=True),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return (Field(name, multi_valued=True, indexed=self.indexed),)

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return (tuple(dict.fromkeys(map(fold, value))),)


class EnumListField(TextListField):
    """List of tokens of a closed vocabulary."""

    def __init__(self, vocabulary: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.vocabulary = tuple(vocabulary)

    def item(self, value: JSON) -> str:
        if plain_text(value) not in self.vocabulary:
            raise ValidationError(f"{printable(value)} is not one of: {', '.join(self.vocabulary)}")
        return str(value)


def _reference(collection: str, token: str, key: str) -> orjson.Fragment:
    # The escaped solidus marks where the serializer inserts the root URL. No encoder here writes it elsewhere.
    if _PLAIN.fullmatch(key):
        text = f'{{"href":"\\/{collection}/{key}","sourcedId":"{key}","type":"{token}"}}'
        return orjson.Fragment(text)
    rest = orjson.dumps({"sourcedId": key, "type": token})[1:]
    return orjson.Fragment(b'{"href":"\\/%s/%s",%s' % (collection.encode(), quote(key, safe="").encode(), rest))


class RefField(GuidField):
    """Reference (GUIDRef) to a record of `target`. `token` is its type (docs/conformance, A-20)."""

    repeats = True

    def __init__(self, target: str, token: str, **options: Any) -> None:
        super().__init__(**options)
        self.target = target
        self.token = token

    def default_column(self, name: str) -> str:
        return f"{name}SourcedId"

    def normalize(self, value: JSON) -> JSON:
        if not isinstance(value, dict):
            raise ValidationError(f'{printable(value)} is not a reference such as {{"sourcedId": "..."}}')
        if value.get("type", self.token) != self.token:
            raise ValidationError(f"{printable(value.get('type'))} is not the type of a reference to {self.target}")
        return super().normalize(value.get("sourcedId"))

    def from_cell(self, cell: str) -> JSON:
        return id_from_cell(cell)

    def to_cell(self, value: JSON) -> str:
        return str(value["sourcedId"])

    def to_json(self, value: JSON) -> JSON:
        return _reference(self.target, self.token, value)

    def fast_parser(self) -> FastParser:
        """Return a parser that is faster for ids without escapes, which nearly all ids are."""
        parse_any = super().fast_parser()
        before, after = f'{{"href":"\\/{self.target}/', f'","type":"{self.token}"}}'

        def parse(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            if _PLAIN.fullmatch(cell) and is_valid_id_cell(cell):
                return orjson.Fragment(f'{before}{cell}","sourcedId":"{cell}{after}'), (cell,)
            return parse_any(cell)

        return CellCache(parse).__getitem__

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        field = f"{name}.sourcedId"
        return FilterPath(field, field, "exact"), FilterPath(name, field, "exact")

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return (Field(f"{name}.sourcedId", indexed=True),)

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return (value,)


class RefListField(RefField):
    """List of references.

    Without a column it is derived: from `inverse`, a field of `target`, or from the link file `link`.
    """

    def __init__(self, target: str, token: str, *, inverse: str = "", link: str = "", **options: Any) -> None:
        super().__init__(target, token, **options)
        self.inverse = inverse
        self.link = link

    def default_column(self, name: str) -> str:
        return f"{name.removesuffix('s')}SourcedIds"

    def normalize(self, value: JSON) -> JSON:
        if not isinstance(value, list):
            raise ValidationError(f"{printable(value)} is not a list of references")
        return [RefField.normalize(self, item) for item in value]

    def from_cell(self, cell: str) -> JSON:
        return list(dict.fromkeys(map(id_from_cell, split_ids(cell))))

    def to_cell(self, value: JSON) -> str:
        return ",".join(reference["sourcedId"] for reference in value)

    def to_json(self, value: JSON) -> JSON:
        return [_reference(self.target, self.token, key) for key in value]

    def fast_parser(self) -> FastParser:
        return OneRosterField.fast_parser(self)

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        field = f"{name}.sourcedId"
        return FilterPath(field, field, "exact", multi_valued=True), FilterPath(name, field, "exact", multi_valued=True)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return (Field(f"{name}.sourcedId", multi_valued=True, indexed=True),)

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return (tuple(value),)


class UserIdsField(OneRosterField):
    """External identifiers, in CSV as `{type:identifier}`. The first colon separates type and identifier."""

    _ITEM = re.compile(r"\s*\{\s*([^{}:\s][^{}:]*):\s*([^{}\s][^{}]*)\}\s*(?:,|$)")

    def from_cell(self, cell: str) -> JSON:
        user_ids, position = [], 0
        while position < len(cell):
            match = self._ITEM.match(cell, position)
            if not match:
                raise ValidationError(f"{printable(cell)} is not written {{type:id}},{{type:id}}")
            user_ids.append({"type": match[1].strip(), "identifier": match[2].strip()})
            position = match.end()
        return user_ids

    def to_cell(self, value: JSON) -> str:
        return ",".join(f"{{{user_id['type']}:{user_id['identifier']}}}" for user_id in value)

    def normalize(self, value: JSON) -> JSON:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ValidationError(f"{printable(value)} is not a list of objects with type and identifier")
        return [{part: plain_text(item.get(part)) for part in ("type", "identifier")} for item in value]

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return tuple(
            FilterPath(f"{name}.{part}", f"{name}.{part}", multi_valued=True) for part in ("type", "identifier")
        )

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return tuple(Field(f"{name}.{part}", multi_valued=True, indexed=True) for part in ("type", "identifier"))

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return tuple(tuple(dict.fromkeys(fold(item[part]) for item in value)) for part in ("type", "identifier"))


class MetadataField(OneRosterField):
    """Extension object with any names and values. In CSV every name is a column `metadata.<name>`."""

    def __init__(self) -> None:
        super().__init__(column=None)

    def normalize(self, value: JSON) -> JSON:
        if not isinstance(value, dict):
            raise ValidationError(f"{printable(value)} is not an object")
        return value

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(f"{name}.*", f"{name}.*"),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return (Field(f"{name}.*", multi_valued=True),)


def flatten(prefix: str, value: JSON) -> Iterator[tuple[str, Scalar]]:
    """Yield path and comparison key of every value in a metadata value. Items of a list share a path."""
    for names, single in _single_values((prefix,), value):
        yield ".".join(names), metadata_key(single)


def metadata_key(single: JSON) -> str:
    """Return the comparison key of one value in metadata."""
    return fold(single if isinstance(single, str) else orjson.dumps(single).decode())


def exceeded_metadata_limit(value: JSON) -> str:
    """Return the limit of a record that its metadata exceeds, as a rule for the sender; empty if it exceeds none."""
    return exceeded_limit(".".join(names) for names, _ in _single_values(("metadata",), value))


def longest_metadata_text(value: JSON) -> int:
    """Return the length of the longest text in metadata that is within its other limits."""
    return max((len(single) for _, single in _single_values((), value) if isinstance(single, str)), default=0)


def exceeded_limit(paths: Iterable[str]) -> str:
    """Return the limit that metadata with these paths exceeds; empty if none. A path repeats for each of its values.

    Reads only as many paths as it needs, because all paths of deeply nested metadata may take gigabytes.
    """
    different: set[str] = set()
    length = 0
    for count, path in enumerate(paths, 1):
        if count > MAX_METADATA_VALUES:
            return f"at most {MAX_METADATA_VALUES} values are allowed"
        if path not in different:
            different.add(path)
            length += len(path)
        if length > MAX_METADATA_PATH_LENGTH:
            return (
                f"at most {MAX_METADATA_PATH_LENGTH} characters are allowed in the paths of all values together;"
                " a path contains the names of all objects around a value"
            )
    return ""


def _single_values(names: tuple[str, ...], value: JSON) -> Iterator[tuple[tuple[str, ...], JSON]]:
    """Yield every value that is not an object, a list or null, with the names that lead to it."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _single_values((*names, name), member)
    elif isinstance(value, list):
        for member in value:
            yield from _single_values(names, member)
    elif value is not None:
        yield names, value
