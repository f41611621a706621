"""What every data type of OneRoster is: a marshmallow field that also knows its CSV cells and comparison keys.

An `Element` is declared once, in a Schema of `resources`, and answers for three bindings: JSON (marshmallow's own
`_deserialize`), CSV (`from_cell`) and storage (`paths` and `keys`, the comparison keys of a value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from marshmallow import ValidationError, fields

from backends import Field, Value

__all__ = [
    "CACHE_SIZE",
    "JSON",
    "FastParser",
    "FilterPath",
    "OneRosterField",
    "Typing",
    "fold",
    "plain_text",
    "printable",
]

JSON: TypeAlias = Any
"""A JSON value as Python holds it."""

Typing: TypeAlias = Literal["text", "exact", "date", "datetime", "number", "flag", "year"]

FastParser: TypeAlias = Callable[[str], tuple[JSON, tuple[Value, ...]]]
"""From a CSV cell to the value as it is encoded (None: an empty list) and its comparison keys, in stored order."""

CACHE_SIZE = 65_536
"""So many cells of a column are remembered while it is read; more would cost more memory than they save time."""

fold = str.casefold


@dataclass(frozen=True, slots=True)
class FilterPath:
    """A path that a client may filter and sort by, and the stored field that answers.

    `ordered_by` answers `<` and `>`, `text` answers `~`, where these differ from `field`.
    """

    name: str
    field: str
    typing: Typing = "text"
    many: bool = False
    ordered_by: str = ""
    text: str = ""


class OneRosterField(fields.Field[JSON]):
    """One data element of a class.

    `column` is its CSV header (None: not in CSV), `in_csv` says that every CSV row needs a value, `always` that an
    empty list is emitted, `fallback` names the element whose value stands in when this one is absent. `unless` is
    another element and the one value of it with which this element may be missing; else it must be there.
    """

    repeats = False
    """Whether the same cell is likely to come again, so that what it means is worth remembering."""

    def __init__(
        self,
        *,
        column: str | None = "",
        in_csv: bool = False,
        indexed: bool = False,
        always: bool = False,
        fallback: str = "",
        required: bool = False,
        data_key: str | None = None,
        repeats: bool = False,
        unless: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(required=required, data_key=data_key)
        self.column = column
        self.in_csv = in_csv or required
        self.indexed = indexed
        self.always = always
        self.fallback = fallback
        self.repeats = repeats or type(self).repeats
        self.unless = unless

    def column_name(self, name: str) -> str | None:
        """The CSV header of the element called `name` in JSON, or None when CSV does not carry it."""
        return None if self.column is None else self.column or self.default_column(name)

    def default_column(self, name: str) -> str:
        """The CSV header that the standard gives an element of this type."""
        return name

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        """The filterable paths of the element called `name`."""
        return (FilterPath(name, name),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        """The fields that storage keeps for it; `keys` gives their values in the same order."""
        return (Field(name, indexed=self.indexed),)

    def from_cell(self, cell: str) -> JSON:
        """The JSON value of a CSV cell that is not empty. Raises ValidationError."""
        return self.normalize(cell)

    def to_cell(self, value: JSON) -> str:
        """The CSV cell of a value as it stands in a body: what `from_cell` reads as that value again."""
        return str(value)

    def normalize(self, value: JSON) -> JSON:
        """The value in the one form that is stored. Raises ValidationError."""
        raise TypeError(f"{type(self).__name__} must say what its normal form is")

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        """The comparison keys of a normal value, in the order of `stored`."""
        return (fold(value),)

    def to_json(self, value: JSON) -> JSON:
        """What orjson is given for a normal value."""
        return value

    def fast_parser(self) -> FastParser:
        """The quick way from a cell to what is stored: `from_cell`, `encoded` and `keys` in one call."""

        def read(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            value = self.from_cell(cell)
            return (None, ()) if value == [] else (self.to_json(value), self.comparison_keys(value))

        return lru_cache(maxsize=CACHE_SIZE)(read) if self.repeats else read

    def _deserialize(self, value: JSON, attr: str | None, data: Mapping[str, JSON] | None, **kwargs: Any) -> JSON:
        return self.normalize(value)


def plain_text(value: JSON) -> str:
    """The value if it is text that can be kept. Raises ValidationError."""
    if not isinstance(value, str):
        raise ValidationError(f"{printable(value)} is not text")
    if "\0" in value or not _encodable(value):
        raise ValidationError("the text holds a NUL or bytes that are not UTF-8; remove them")
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(value: JSON) -> str:
    """A value as an error message quotes it, cut at 80 characters."""
    text = repr(value)
    if len(text) <= 80:
        return text
    return f"{value[:75]!r}..." if isinstance(value, str) else text[:77] + "..."
