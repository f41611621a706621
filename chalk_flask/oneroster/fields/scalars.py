"""Field types with one value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from marshmallow import ValidationError

from backends import Field, Value
from chalk_flask.oneroster import vocabularies
from chalk_flask.oneroster.fields.base import JSON, FastParser, FilterPath, OneRosterField, fold, plain_text, printable
from chalk_flask.oneroster.vocabularies import ERROR_VALUES, PLACEHOLDERS

__all__ = [
    "ERROR_VALUE",
    "JSON",
    "MAX_GUID_LENGTH",
    "NULL_WORD",
    "BooleanField",
    "DateField",
    "DateOrDateTimeField",
    "DateTimeField",
    "EmailField",
    "EnumField",
    "FastParser",
    "FilterPath",
    "GuidField",
    "NameField",
    "NumberField",
    "OneRosterField",
    "PhoneField",
    "TextField",
    "YearField",
    "clean_id",
    "fold",
    "id_from_cell",
    "is_valid_guid",
    "is_valid_id_cell",
    "placeholder_kind",
    "plain_text",
    "printable",
]

MAX_GUID_LENGTH = 255

ERROR_VALUE = "an error value of a spreadsheet"
NULL_WORD = "a word for an absent value"
"""The two kinds of placeholders, as messages call them."""

_NONCHARACTERS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
# Both patterns are texts: `re` compiles them at their first use, and nearly all ids need neither.
_NOT_IN_GUIDS = f"[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef{_NONCHARACTERS}]"
_INVISIBLE = "[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
"""Characters without width: soft hyphens, zero-width spaces and joiners, direction marks, byte order marks."""


def is_valid_guid(text: str) -> bool:
    """Return True if a text that is not empty can be a sourcedId (docs/conformance, A-22)."""
    # Nearly all ids are printable, which takes less time to find out.
    return len(text) <= MAX_GUID_LENGTH and (text.isprintable() or not re.search(_NOT_IN_GUIDS, text))


def clean_id(cell: str) -> str:
    """Return an id without blanks at its ends and without invisible characters (docs/conformance, I-35)."""
    # A printable text has no invisible characters.
    return (cell if cell.isprintable() else re.sub(_INVISIBLE, "", cell)).strip()


def is_valid_id_cell(cell: str) -> bool:
    """Return True if `id_from_cell` accepts a cell that is not empty."""
    # Nearly all ids are printable, which takes less time to find out. Then they have no blanks but plain ones.
    if cell.isprintable() and " " not in cell:
        return len(cell) <= MAX_GUID_LENGTH and cell not in PLACEHOLDERS
    return is_valid_guid(cell) and clean_id(cell) == cell and cell not in PLACEHOLDERS


def id_from_cell(cell: str) -> str:
    """Return the id in a CSV cell. Raises ValidationError.

    Cells are stricter than JSON: they must not have stray characters, or be a placeholder such as `NULL`
    (docs/conformance, I-35 and I-36).
    """
    if cell.isprintable() and cell and is_valid_id_cell(cell):  # nearly all ids; printable text can be encoded
        return cell
    if cell in PLACEHOLDERS:
        raise ValidationError(f"{printable(cell)} is {placeholder_kind(cell)}, not an identifier")
    if clean_id(cell) != cell:
        message = "begins or ends with a blank, or contains an invisible character"
        raise ValidationError(f"{printable(cell)} {message}")
    return _normalize_guid(cell)


def placeholder_kind(cell: str) -> str:
    """Return the kind of a placeholder, as a message calls it."""
    return ERROR_VALUE if cell in ERROR_VALUES else NULL_WORD


def _normalize_guid(value: JSON) -> str:
    if len(plain_text(value)) > MAX_GUID_LENGTH:
        raise ValidationError(f"{printable(value)} is longer than {MAX_GUID_LENGTH} characters")
    if not is_valid_guid(value):
        raise ValidationError(f"{printable(value)} contains a control character or a noncharacter")
    if not value:
        raise ValidationError("an identifier must not be empty")
    return str(value)


class TextField(OneRosterField):
    """Text of any content. An empty text counts as absent."""

    def normalize(self, value: JSON) -> JSON:
        return plain_text(value)

    def fast_parser(self) -> FastParser:
        if self.repeats:
            return super().fast_parser()
        return lambda cell: (cell, (cell.casefold(),))


class NameField(TextField):
    """Name of a person. A word for an absent value, such as None, may be one."""


class EmailField(TextField):
    """E-mail address. A blank in a filter means the plus that the client did not encode."""

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "email"),)


class PhoneField(TextField):
    """Telephone number. A blank at its start in a filter means the plus that the client did not encode."""

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "phone"),)


class GuidField(OneRosterField):
    """Identifier (sourcedId): compared exactly, at most 255 characters (CSV tables 1.1.1), without control characters.

    Noncharacters such as U+FFFF are invalid too (docs/conformance, A-22).
    """

    def normalize(self, value: JSON) -> JSON:
        return _normalize_guid(value)

    def from_cell(self, cell: str) -> JSON:
        return id_from_cell(cell)

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, "@key", "exact"),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return ()

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return ()


class EnumField(OneRosterField):
    """Token of a closed vocabulary. `former` maps tokens of OneRoster 1.0 to those of 1.1."""

    repeats = True

    def __init__(self, vocabulary: Sequence[str], *, former: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.vocabulary = tuple(vocabulary)
        self.former = dict(former or {})

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return (Field(name, indexed=self.indexed, low_cardinality=True),)

    def normalize(self, value: JSON) -> JSON:
        token = self.former.get(plain_text(value), value)
        if token not in self.vocabulary:
            raise ValidationError(f"{printable(value)} is not one of: {', '.join(self.vocabulary)}")
        return token


class BooleanField(OneRosterField):
    """Boolean: the string "true" or "false" in JSON (docs/conformance, A-02). Accepts any case and JSON booleans."""

    repeats = True

    def normalize(self, value: JSON) -> JSON:
        text = str(value).lower() if isinstance(value, bool) else plain_text(value).lower()
        if text not in vocabularies.TRUTH:
            raise ValidationError(f"{printable(value)} is neither true nor false")
        return text

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "boolean"),)


class DateField(OneRosterField):
    """Date, `YYYY-MM-DD`. The time of a date-time in JSON is dropped."""

    repeats = True

    def normalize(self, value: JSON) -> JSON:
        return self.from_cell(value[:10] if len(plain_text(value)) > 10 and value[10] in "Tt " else value)

    def from_cell(self, cell: str) -> JSON:
        try:
            return vocabularies.parse_date(cell)
        except ValueError:
            raise ValidationError(f"{printable(cell)} is not a calendar date written YYYY-MM-DD") from None

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "date"),)


class DateTimeField(OneRosterField):
    """Date-time, stored in UTC with milliseconds. A date means its midnight (docs/conformance, A-18)."""

    repeats = True

    def normalize(self, value: JSON) -> JSON:
        try:
            return vocabularies.parse_date_time(plain_text(value))[0]
        except ValueError:
            raise ValidationError(
                f"{printable(value)} is not a date-time written YYYY-MM-DDTHH:MM:SS.sssZ or YYYY-MM-DD"
            ) from None

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "datetime"),)


class DateOrDateTimeField(DateTimeField):
    """Date-time with a CSV column of dates. A midnight is written as its date (docs/conformance, A-18)."""

    def to_cell(self, value: JSON) -> str:
        return str(value).removesuffix("T00:00:00.000Z")


class YearField(OneRosterField):
    """Year, `YYYY`. Equality compares text, order compares numbers."""

    repeats = True

    def normalize(self, value: JSON) -> JSON:
        try:
            return vocabularies.parse_year(plain_text(value))
        except ValueError:
            raise ValidationError(f"{printable(value)} is not a year written YYYY") from None

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "year", order_field=f"{name}#number"),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return Field(name, indexed=self.indexed), Field(f"{name}#number", "number")

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return value, float(value)


class NumberField(OneRosterField):
    """Finite number. Accepts numeric strings, writes JSON numbers (docs/conformance, A-19)."""

    def normalize(self, value: JSON) -> JSON:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValidationError(f"{printable(value)} is not a number")
        try:
            number = vocabularies.parse_number(value if isinstance(value, str) else repr(value))
        except ValueError:
            raise ValidationError(f"{printable(value)} is not a base-10 number such as 87.5") from None
        return int(number) if number.is_integer() and abs(number) < 2**53 else number

    def filter_paths(self, name: str) -> tuple[FilterPath, ...]:
        return (FilterPath(name, name, "number", text=f"{name}#text"),)

    def storage_fields(self, name: str) -> tuple[Field, ...]:
        return Field(name, "number", indexed=self.indexed), Field(f"{name}#text")

    def comparison_keys(self, value: JSON) -> tuple[Value, ...]:
        return float(value), orjson.dumps(value).decode()

    def to_cell(self, value: JSON) -> str:
        return orjson.dumps(value).decode()
