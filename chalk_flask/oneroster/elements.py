"""The data types of OneRoster as marshmallow fields that also know their CSV cells and comparison keys.

An `Element` is declared once, in a Schema of `resources`, and answers for three bindings: JSON (marshmallow's own
`_deserialize`), CSV (`from_cell`) and storage (`paths` and `keys`, the comparison keys of a value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import orjson
from marshmallow import ValidationError, fields

from backends import Field, Value
from chalk_flask.oneroster import vocabularies as words

__all__ = [
    "JSON",
    "MAX_GUID",
    "Date",
    "DateTime",
    "Element",
    "Flag",
    "Guid",
    "Number",
    "Path",
    "Reader",
    "Text",
    "Token",
    "Year",
    "fold",
    "plain_text",
    "shown",
]

JSON: TypeAlias = Any
"""A JSON value as Python holds it."""

Typing: TypeAlias = Literal["text", "exact", "date", "datetime", "number", "flag", "year"]

Reader: TypeAlias = Callable[[str], tuple[JSON, tuple[Value, ...]]]
"""From a CSV cell to the value as it is encoded (None: an empty list) and its comparison keys, in stored order."""

MAX_GUID = 255

REMEMBERED = 16_384
"""So many cells of a column are remembered while it is read; more would cost more memory than they save time."""

fold = str.casefold


@dataclass(frozen=True, slots=True)
class Path:
    """A path that a client may filter and sort by, and the stored field that answers.

    `ordered_by` answers `<` and `>`, `text` answers `~`, where these differ from `field`.
    """

    name: str
    field: str
    typing: Typing = "text"
    many: bool = False
    ordered_by: str = ""
    text: str = ""


class Element(fields.Field[JSON]):
    """One data element of a class.

    `column` is its CSV header (None: not in CSV), `in_csv` says that every CSV row needs a value, `always` that an
    empty list is emitted, `fallback` names the element whose value stands in when this one is absent.
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
    ) -> None:
        super().__init__(required=required, data_key=data_key)
        self.column = column
        self.in_csv = in_csv or required
        self.indexed = indexed
        self.always = always
        self.fallback = fallback
        self.repeats = repeats or type(self).repeats

    def column_name(self, name: str) -> str | None:
        """The CSV header of the element called `name` in JSON, or None when CSV does not carry it."""
        return None if self.column is None else self.column or self.default_column(name)

    def default_column(self, name: str) -> str:
        """The CSV header that the standard gives an element of this type."""
        return name

    def paths(self, name: str) -> tuple[Path, ...]:
        """The filterable paths of the element called `name`."""
        return (Path(name, name),)

    def stored(self, name: str) -> tuple[Field, ...]:
        """The fields that storage keeps for it; `keys` gives their values in the same order."""
        return (Field(name, indexed=self.indexed),)

    def from_cell(self, cell: str) -> JSON:
        """The JSON value of a CSV cell that is not empty. Raises ValidationError."""
        return self.normal(cell)

    def normal(self, value: JSON) -> JSON:
        """The value in the one form that is stored. Raises ValidationError."""
        raise TypeError(f"{type(self).__name__} must say what its normal form is")

    def keys(self, value: JSON) -> tuple[Value, ...]:
        """The comparison keys of a normal value, in the order of `stored`."""
        return (fold(value),)

    def encoded(self, value: JSON) -> JSON:
        """What orjson is given for a normal value."""
        return value

    def reader(self) -> Reader:
        """The quick way from a cell to what is stored: `from_cell`, `encoded` and `keys` in one call."""

        def read(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            value = self.from_cell(cell)
            return (None, ()) if value == [] else (self.encoded(value), self.keys(value))

        return lru_cache(maxsize=REMEMBERED)(read) if self.repeats else read

    def _deserialize(self, value: JSON, attr: str | None, data: Mapping[str, JSON] | None, **kwargs: Any) -> JSON:
        return self.normal(value)


def plain_text(value: JSON) -> str:
    """The value if it is text that can be kept. Raises ValidationError."""
    if not isinstance(value, str):
        raise ValidationError(f"{shown(value)} is not text")
    if "\0" in value or not _encodable(value):
        raise ValidationError("the text holds a NUL or bytes that are not UTF-8; remove them")
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: JSON) -> str:
    """A value as an error message quotes it, cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Text(Element):
    """Any text. An empty one is an absent one."""

    def normal(self, value: JSON) -> JSON:
        return plain_text(value)

    def reader(self) -> Reader:
        if self.repeats:
            return super().reader()
        return lambda cell: (cell, (cell.casefold(),))


class Guid(Element):
    """A `sourcedId`: compared exactly, at most 255 characters (CSV tables 1.1.1)."""

    def normal(self, value: JSON) -> JSON:
        if len(plain_text(value)) > MAX_GUID:
            raise ValidationError(f"{shown(value)} is longer than {MAX_GUID} characters")
        if not value:
            raise ValidationError("an identifier must not be empty")
        return value

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, "@key", "exact"),)

    def stored(self, name: str) -> tuple[Field, ...]:
        return ()

    def keys(self, value: JSON) -> tuple[Value, ...]:
        return ()


class Token(Element):
    """A token of a closed vocabulary; `former` maps tokens of OneRoster 1.0 to today's."""

    repeats = True

    def __init__(self, vocabulary: Sequence[str], *, former: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.vocabulary = tuple(vocabulary)
        self.former = dict(former or {})

    def stored(self, name: str) -> tuple[Field, ...]:
        return (Field(name, indexed=self.indexed, common=True),)

    def normal(self, value: JSON) -> JSON:
        token = self.former.get(plain_text(value), value)
        if token not in self.vocabulary:
            raise ValidationError(f"{shown(value)} is not one of: {', '.join(self.vocabulary)}")
        return token


class Flag(Element):
    """A truth value: the strings "true" and "false" in JSON (reading A-02), any case in CSV, JSON booleans read too."""

    repeats = True

    def normal(self, value: JSON) -> JSON:
        text = str(value).lower() if isinstance(value, bool) else plain_text(value).lower()
        if text not in words.TRUTH:
            raise ValidationError(f"{shown(value)} is neither true nor false")
        return text

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, name, "flag"),)


class Date(Element):
    """A day, `YYYY-MM-DD`. Of a date-time in JSON the day is kept."""

    repeats = True

    def normal(self, value: JSON) -> JSON:
        return self.from_cell(value[:10] if len(plain_text(value)) > 10 and value[10] in "Tt " else value)

    def from_cell(self, cell: str) -> JSON:
        try:
            return words.parse_date(cell)
        except ValueError:
            raise ValidationError(f"{shown(cell)} is not a day of the calendar written YYYY-MM-DD") from None

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, name, "date"),)


class DateTime(Element):
    """An instant, kept in UTC with three fractional digits; a bare date is its midnight (reading A-18)."""

    repeats = True

    def normal(self, value: JSON) -> JSON:
        try:
            return words.parse_instant(plain_text(value))[0]
        except ValueError:
            raise ValidationError(f"{shown(value)} is neither YYYY-MM-DDTHH:MM:SS.sssZ nor YYYY-MM-DD") from None

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, name, "datetime"),)


class Year(Element):
    """A year `YYYY`: equal as text, ordered as a number."""

    repeats = True

    def normal(self, value: JSON) -> JSON:
        try:
            return words.parse_year(plain_text(value))
        except ValueError:
            raise ValidationError(f"{shown(value)} is not a year written YYYY") from None

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, name, "year", ordered_by=f"{name}#number"),)

    def stored(self, name: str) -> tuple[Field, ...]:
        return Field(name, indexed=self.indexed), Field(f"{name}#number", "number")

    def keys(self, value: JSON) -> tuple[Value, ...]:
        return value, float(value)


class Number(Element):
    """A finite number; numeric strings are read, JSON numbers are written (reading A-19)."""

    def normal(self, value: JSON) -> JSON:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValidationError(f"{shown(value)} is not a number")
        try:
            number = words.parse_number(value if isinstance(value, str) else repr(value))
        except ValueError:
            raise ValidationError(f"{shown(value)} is not a base-10 number such as 87.5") from None
        return int(number) if number.is_integer() and abs(number) < 2**53 else number

    def paths(self, name: str) -> tuple[Path, ...]:
        return (Path(name, name, "number", text=f"{name}#text"),)

    def stored(self, name: str) -> tuple[Field, ...]:
        return Field(name, "number", indexed=self.indexed), Field(f"{name}#text")

    def keys(self, value: JSON) -> tuple[Value, ...]:
        return float(value), orjson.dumps(value).decode()
