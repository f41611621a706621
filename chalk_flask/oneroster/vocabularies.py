"""Vocabularies of OneRoster 1.1 (specification, section 4.13) and parsers of dates, years and numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime

ACTIVE = "active"
TO_BE_DELETED = "tobedeleted"

STATUS = (ACTIVE, TO_BE_DELETED)
SESSION_TYPES = ("gradingPeriod", "semester", "schoolYear", "term")
ORG_TYPES = ("department", "school", "district", "local", "state", "national")
CLASS_TYPES = ("homeroom", "scheduled")
ROLES = ("administrator", "aide", "guardian", "parent", "proctor", "relative", "student", "teacher")
ENROLLMENT_ROLES = ("administrator", "proctor", "student", "teacher")
GENDERS = ("male", "female")
IMPORTANCE = ("primary", "secondary")
GRADED = "fully graded"
NOT_SUBMITTED = "not submitted"
SCORE_STATUS = ("exempt", GRADED, NOT_SUBMITTED, "partially graded", "submitted")
STATUS_WITHOUT_SCORE = ("exempt", NOT_SUBMITTED, "submitted")
"""Score statuses of results that need no score (docs/conformance, I-29 and W-06)."""
TRUTH = ("true", "false")

# CEDS codes. Local codes are stored, with a warning (docs/conformance, V-02).
GRADES = ("IT", "PR", "PK", "TK", "KG", *(f"{n:02}" for n in range(1, 14)), "PS", "UG", "Other")

# OneRoster 1.0 has `inactive` instead of `tobedeleted`. It is accepted and never written.
FORMER_STATUS = {"inactive": TO_BE_DELETED}
DELETED = (TO_BE_DELETED, *FORMER_STATUS)
"""Status cells that delete a record in a delta file."""

MAX_CELL_WIDTH = 255
"""Maximum width of a column of a spreadsheet, in characters."""

# English, German, French, Spanish, Italian and Portuguese, Dutch, Swedish, Polish.
ERROR_VALUES = frozenset(
    (
        *("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA", "#SPILL!", "#CALC!"),
        *("#FIELD!", "#BLOCKED!", "#CONNECT!", "#UNKNOWN!", "#BUSY!", "#EXTERNAL!", "#PYTHON!", "#ERROR!"),
        *("#WERT!", "#BEZUG!", "#ZAHL!", "#NV", "#ÜBERLAUF!", "#KALK!", "#FELD!"),
        *("#NUL!", "#VALEUR!", "#NOM?", "#NOMBRE!", "#PROPAGATION!", "#CALCUL!"),
        *("#¡NULO!", "#¡DIV/0!", "#¡VALOR!", "#¡REF!", "#¿NOMBRE?", "#¡NUM!", "#N/D", "#¡DESBORDAMIENTO!"),
        *("#NULLO!", "#VALORE!", "#RIF!", "#NOME?", "#ESPANSIONE!", "#NULO!", "#VALOR!", "#NÚM!"),
        *("#LEEG!", "#DEEL/0!", "#WAARDE!", "#VERW!", "#NAAM?", "#GETAL!", "#N/B"),
        *("#SKÄRNING!", "#DIVISION/0!", "#VÄRDEFEL!", "#REFERENS!", "#NAMN?", "#OGILTIGT!", "#SAKNAS!"),
        *("#ZERO!", "#DZIEL/0!", "#ARG!", "#ADR!", "#NAZWA?", "#LICZBA!"),
        *(f"Err:{number}" for number in range(501, 541)),
        *("#" * width for width in range(3, MAX_CELL_WIDTH + 1)),
    )
)
"""Cells that Excel, LibreOffice and Google Sheets write if a formula fails, or a number is wider than its column."""

NULL_WORDS = frozenset(
    (
        *("NULL", "Null", "null", "(NULL)", "(Null)", "(null)", "<NULL>", "<null>", "[NULL]", "[null]"),
        *("\\N", "None", "nan", "NaN", "NaT", "<NA>", "undefined"),
    )
)
"""Words that databases and programs write for an absent value."""

PLACEHOLDERS = ERROR_VALUES | NULL_WORDS
"""Cells that hold no value, although they are not empty (docs/conformance, I-36)."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,12}))?)?"
    r"(?:([Zz])|([+\- ])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
_YEAR = re.compile(r"[0-9]{4}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def parse_date(text: str) -> str:
    """Return the text if it is a calendar date written `YYYY-MM-DD`. Raises ValueError."""
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    date.fromisoformat(text)
    return text


def parse_date_time(text: str) -> tuple[str, bool]:
    """Return an ISO 8601 date-time or date as `YYYY-MM-DDTHH:MM:SS.sssZ`, and True if no digit was cut off.

    Digits after the millisecond are cut off. A date means midnight, a text without zone means UTC. A space before the
    offset counts as `+`, because an unescaped plus in a URL is decoded to a space. Raises ValueError.
    """
    match = _DATE_TIME.fullmatch(text)
    if not match:
        raise ValueError(text)
    day, clock, seconds, fraction, _, sign, hours, minutes = match.groups()
    fraction = fraction or ""
    zone = f"{'-' if sign == '-' else '+'}{hours}:{minutes or '00'}" if sign else "+00:00"
    whole = datetime.fromisoformat(f"{day}T{clock or '00:00'}:{seconds or '00'}{zone}")
    try:
        utc = whole.astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None
    milliseconds = f"{fraction:0<3.3}" if fraction else "000"
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{milliseconds}Z".rjust(24, "0"), not fraction[3:].strip("0")


def parse_year(text: str) -> str:
    """Return the text if it is a year with four digits. Raises ValueError."""
    if not _YEAR.fullmatch(text):
        raise ValueError(text)
    return text


def parse_number(text: str) -> float:
    """Return a finite base-10 number with a decimal point. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
