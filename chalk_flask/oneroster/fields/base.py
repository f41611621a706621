"""Base class of all field types: a marshmallow field that also converts CSV cells and returns comparison keys.

A field is declared once, in a Schema of `schemas`. It serves three bindings: JSON (`_deserialize` of marshmallow), CSV
(`from_cell`, `to_cell`) and storage (`storage_fields`, `comparison_keys`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from marshmallow import ValidationError, fields

from backends import Field, Value

__all__ = [
    "JSON",
    "CellCache",
    "FastParser",
    "FilterPath",
    "OneRosterField",
    "ValueType",
    "fold",
    "plain_text",
    "printable",
]

JSON: TypeAlias = Any
"""JSON value as a Python object."""

ValueType: TypeAlias = Literal["text", "exact", "email", "phone", "date", "datetime", "number", "boolean", "year"]

FastParser: TypeAlias = Callable[[str], tuple[JSON, tuple[Value, ...]]]
"""Function from a CSV cell to the value for the JSON encoder (None: an empty list) and its comparison keys."""

CACHE_SIZE = 65_536
"""Maximum number of parsed cells that are cached per column. A larger cache uses more memory and is hardly faster."""

fold = str.casefold


class CellCache(dict[str, tuple[JSON, tuple[Value, ...]]]):
    """Cache of the parsed cells of a column. `cache[cell]` is `parse(cell)`.

    A full cache is emptied. This takes less time than the order of use that `functools.lru_cache` keeps.
    """

    def __init__(self, parse: FastParser) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, cell: str) -> tuple[JSON, tuple[Value, ...]]:
        if len(self) == CACHE_SIZE:
            self.clear()
        parsed = self[cell] = self._parse(cell)
        return parsed


@dataclass(frozen=True, slots=True)
class FilterPath:
    """Path that clients can filter and sort by, and the stored field for it.

    `order_field` is the field for `<` and `>`, `text` the field for `~`, if they differ from `field`.
    """

    name: str
    field: str
    value_type: ValueType = "text"
    multi_valued: bool = False
    order_field: str = ""
    text: str = ""


class OneRosterField(fields.Field[JSON]):
    """Field of a resource type.

    `column` is the CSV header (None: not in CSV). With `required_in_csv` every CSV row must have a value. With
    `always_present` an empty list is sent. `fallback` names the field whose value replaces a missing one. `optional_if`
    is another field and its values: the field can be missing only if the other one has one of them.
    """

    repeats = False
    """True if cells of the column repeat, so that parsed cells are cached."""

    def __init__(
        self,
        *,
        column: str | None = "",
        required_in_csv: bool = False,
        indexed: bool = False,
        always_present: bool = False,
        fallback: str = "",
        required: bool = False,
        data_key: str | None = None,
        repeats: bool = False,
        optional_if: tuple[str, tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(required=required, data_key=data_key)
        self.column = column
        self.required_in_csv = required_in_csv or required
        self.indexed = indexed
        self.always_present = always_present
        self.fallback = fallback
        self.repeats = repeats or type(self).repeats
        self.optional_if = optional_if

    def column_name(self, name: str) -> str | None:
        """Return the CSV header of the field called `name` in JSON, or None if it is not in CSV."""
        return None if self.column is None else self.column or self.default_column(name)

    def default_column(self, name: str) -> str:
        """Return the CSV header that the standard gives a field of this type."""
        return name

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        """Return the filterable paths of the field called `name`."""
        return (FilterPath(name, name),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        """Return the stored fields. `comparison_keys` returns their values in the same order."""
        return (Field(name, indexed=self.indexed),)

    def from_cell(self, cell: str) -> JSON:
        """Return the JSON value of a CSV cell that is not empty. Raises ValidationError."""
        return self.normalize(cell)

    def to_cell(self, value: JSON) -> str:
        """Return the CSV cell of a value of a stored body. `from_cell` returns the value again."""
        return str(value)

    def normalize(self, value: JSON) -> JSON:
        """Return the value in the form that is stored. Raises ValidationError."""
        raise TypeError(f"{type(self).__name__} must define normalize")

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        """Return the comparison keys of a normalized value, in the order of `storage_fields`."""
        return (fold(value),)

    def to_json(self, value: JSON) -> JSON:
        """Return the object that orjson encodes for a normalized value."""
        return value

    def fast_parser(self) -> FastParser:
        """Return a function that does `from_cell`, `to_json` and `comparison_keys` in one call."""

        def parse(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            value = self.from_cell(cell)
            return (None, ()) if value == [] else (self.to_json(value), self.comparison_keys(value))

        return CellCache(parse).__getitem__ if self.repeats else parse

    def _deserialize(self, value: JSON, attr: str | None, data: Mapping[str, JSON] | None, **kwargs: Any) -> JSON:
        return self.normalize(value)


def plain_text(value: JSON) -> str:
    """Return the value if it is text that can be stored. Raises ValidationError."""
    if not isinstance(value, str):
        raise ValidationError(f"{printable(value)} is not text")
    if "\0" in value or not _encodable(value):
        raise ValidationError("the text contains a NUL or bytes that are not UTF-8; remove them")
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(value: JSON) -> str:
    """Return a value as an error message quotes it, cut at 80 characters."""
    text = repr(value)
    if len(text) <= 80:
        return text
    return f"{value[:75]!r}..." if isinstance(value, str) else text[:77] + "..."
