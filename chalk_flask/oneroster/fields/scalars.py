"""The data types of OneRoster that hold one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from marshmallow import ValidationError

from backends import Field, Value
from chalk_flask.oneroster import vocabularies as words
from chalk_flask.oneroster.fields.base import JSON, Element, Path, Reader, fold, plain_text, shown

__all__ = [
    "JSON",
    "MAX_GUID",
    "Date",
    "DateTime",
    "DayTime",
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

MAX_GUID = 255


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


class DayTime(DateTime):
    """An instant whose column is of days: a midnight is written as its day, any other with its time (A-18)."""

    def cell(self, value: JSON) -> str:
        return str(value).removesuffix("T00:00:00.000Z")


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

    def cell(self, value: JSON) -> str:
        return orjson.dumps(value).decode()
