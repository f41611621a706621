"""Causes of invalid rows: messages and hints that name what a spreadsheet or an export script did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import NoneType
from typing import NamedTuple

from marshmallow import ValidationError

from chalk_flask.oneroster.csv.program_messages import is_error_message, is_program_message
from chalk_flask.oneroster.csv.row_repair import lenient_cell
from chalk_flask.oneroster.csv.tolerances import LENIENT_READING, ROLE_MAP_EXAMPLE
from chalk_flask.oneroster.csv.windows_1252 import from_windows_1252
from chalk_flask.oneroster.fields.composites import EnumListField, RefListField, TextListField, UserIdsField, split_ids
from chalk_flask.oneroster.fields.scalars import (
    JSON,
    MAX_GUID_LENGTH,
    BooleanField,
    DateField,
    DateTimeField,
    EnumField,
    GuidField,
    NumberField,
    OneRosterField,
    TextField,
    YearField,
    clean_id,
    placeholder_kind,
)
from chalk_flask.oneroster.vocabularies import ERROR_VALUES, NULL_WORDS

__all__ = [
    "FAILED_EXPORT",
    "LIST_HINT",
    "ROUNDED_HINT",
    "TOO_SHORT",
    "UNNAMED_COLUMN",
    "CellProblem",
    "dashes_problem",
    "encoding_problem",
    "identifier_hint",
    "is_rounded",
    "length_problem",
    "message_problem",
    "missing_state_problem",
    "missing_value_problem",
    "placeholder_problem",
    "repeated_header_problem",
    "stray_blank_hint",
    "value_problem",
    "wrong_type_cell",
]

_WRONG_TYPE = "\0type:"
_TYPE_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    NoneType: "null",
}

UNNAMED_COLUMN = "unnamed column"
"""Cause of rows that are shorter than a header whose last column has no name."""

FAILED_EXPORT = "failed_export"
"""Code, and cause, of rows with an error of the exporting program."""

TOO_SHORT = "too short: "
"""Beginning of the cause of rows that are shorter than the header."""

EMPTY_WORDS = frozenset({"null", "(null)", "none", "nil", "n/a", "#n/a", "na", "nan", "undefined", "-", "\\n"})
"""Words that other systems write for an empty cell, in lower case."""

TYPOGRAPHIC_QUOTES = tuple("“”„«»")

LIST_HINT = 'Write a list as ids and commas, without brackets and inner quotes: "h1,e1".'
STRAY_HINT = "Remove the blanks at its beginning and end, and invisible characters."
ERROR_VALUE_HINT = "Correct the formula in the spreadsheet, and export the file again."
ROUNDED_HINT = "A spreadsheet rounded this number: format the column as text, and export it again."

_TYPES_WITH_COMMAS = (TextField, TextListField, RefListField, NoneType)
"""Types of fields whose cells may contain commas. None is a column that is not checked."""
_TYPES_OF_PARTS = (TextField, TextListField, GuidField, NoneType)
"""Types of fields that accept part of a text or of a list."""

# Patterns are texts: `re` compiles them at their first use, and most imports need none of them.
_BLANK_BEFORE_QUOTE = r'\s+"'
_OTHER_DATE = (
    r"([0-9]{1,2}[/.-][0-9]{1,2}[/.-]([0-9]{2}|[0-9]{4})"  # 08/17/2026
    r"|[0-9]{4}[/.][0-9]{1,2}[/.][0-9]{1,2}"  # 2026/08/17
    r"|[0-9]{4}-([0-9]-[0-9]{1,2}|[0-9]{2}-[0-9])"  # 2026-8-17
    r"|[12][0-9]{3}[01][0-9][0-3][0-9]"  # 20260817
    r"|[0-9]{1,2}[ .-]+[A-Za-z]{3,9}[ ,.-]+([0-9]{2}|[0-9]{4})"  # 17-Aug-26
    r"|[A-Za-z]{3,9}[ .]+[0-9]{1,2},? ?[0-9]{4}"  # August 17, 2026
    r")([ T].*)?"
)
_ROUNDED_NUMBER = r"[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]+"
_LIST_ITEM = r'\[.*|[^\[].*\]|".*|[^=].*"|\{[^}]*|[^{]*\}'
"""Item of a list in brackets or with inner quotes. A complete {...} may be an id."""
_DAY_NUMBER = r"[1-6][0-9]{4}(\.[0-9]*)?"
_NO_DATE = r"0000-00-00([ T].*)?"
_DATE_AND_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*"
_SCHOOL_YEARS = r"([0-9]{4}) ?[-/] ?([0-9]{2}|[0-9]{4})"


class CellProblem(NamedTuple):
    """Error of a row. `column` is None if the whole row is invalid; a confidential `value` is None.

    Problems of a file with the same `cause` are reported once, with their number. It is empty for other problems.
    """

    code: str
    message: str
    hint: str
    column: str | None = None
    value: str | None = None
    cause: str = ""


def length_problem(
    names: Sequence[str], row: Sequence[str], elements: Sequence[OneRosterField | None] | None = None
) -> CellProblem:
    """Return the error of a row whose number of cells is not that of the header.

    `elements` are the fields of the columns if the row is valid without the empty cells that it has too many.
    """
    counts = f"the row has {len(row)} cell{'' if len(row) == 1 else 's'}, the header {len(names)}"
    surplus = len(row) - len(names)

    def problem(message: str, hint: str, cause: str = "") -> CellProblem:
        return CellProblem("bad_row", message, hint, cause=cause)

    if "\0" in "".join(row):
        message = "the row contains NULs, as a file does that was not written completely"
        return CellProblem("bad_text", message, "Export or upload the file again.", cause="NUL")
    if quoting := _quoting_problem(row):
        message, hint, cause = quoting
        return problem(f"{message}: {counts}", hint, cause)
    if not names[-1] and len(row) == len(names) - 1:
        message = f"the header ends with a column without a name: {counts}"
        return problem(message, "Remove the comma at the end of the header.", UNNAMED_COLUMN)
    if elements is not None and not _may_be_divided(elements, row):
        message = f"rows end with commas that the header does not have: {counts}"
        return problem(message, "Remove the commas at the end of the rows.", "commas")
    if any("\n" in cell or "\r" in cell for cell in row):
        message = f"a cell with line breaks, possibly because a quote is not closed: {counts}"
        return problem(message, "Close the quote. Write a quote within a quoted cell twice.")
    if len(row) == 1 and (";" in row[0] or "\t" in row[0]):
        return problem(
            f"the row is separated by another character than the header: {counts}", "Use commas.", "delimiter"
        )
    cause = f"{len(row)} cells" if surplus > 0 else f"{TOO_SHORT}{len(row)} cells"
    hint = "Quote cells that contain commas, quotes or line breaks."
    if elements is not None:
        hint += " If each cell is in its column, remove the commas at the end of the rows."
    return problem(counts, hint, cause)


def _may_be_divided(elements: Sequence[OneRosterField | None], row: Sequence[str]) -> bool:
    """Return True if two neighbor cells may be parts of one cell with a comma that is not quoted."""
    for (element, following), (cell, next_cell) in zip(pairwise(elements), pairwise(row), strict=False):
        if not cell or not next_cell or isinstance(following, EnumListField):
            continue
        if isinstance(element, UserIdsField):
            if next_cell.lstrip().startswith("{"):
                return True
        elif isinstance(element, _TYPES_WITH_COMMAS) and isinstance(following, _TYPES_OF_PARTS):
            return True
    return False


def _quoting_problem(row: Sequence[str]) -> tuple[str, str, str] | None:
    """Return message, hint and cause if cells are quoted in another way than CSV requires."""
    if any(re.match(_BLANK_BEFORE_QUOTE, cell) for cell in row):
        return "a blank before a quote", "Remove the blank between the comma and the quote.", "blank"
    if any(cell.lstrip().startswith(TYPOGRAPHIC_QUOTES) for cell in row):
        return "cells are quoted with typographic quotes", 'Use straight quotes (").', "quotes"
    if any(cell.startswith("'") for cell in row) and any(cell.endswith("'") for cell in row):
        return "cells are quoted with single quotes", 'Use double quotes (").', "single quotes"
    return None


def repeated_header_problem() -> CellProblem:
    """Return the error of a row that repeats the header."""
    message = "the row repeats the header: the file was joined from several"
    return CellProblem("bad_row", message, "Remove the row.", cause="header")


def dashes_problem() -> CellProblem:
    """Return the error of a row that is a line of dashes."""
    return CellProblem("bad_row", "the row is a line of dashes, not a record", "Remove the row.", cause="rule")


def message_problem(row: Sequence[str]) -> CellProblem | None:
    """Return the error of a row that is a message of the exporting program; None for other rows."""
    if is_program_message(row):
        hint = "Switch it off in the export, or remove the row."
        return CellProblem("bad_row", "the row is a message of the exporting program", hint, cause="message")
    if is_error_message(row):
        message = "the row is an error message of the exporting program: the file is incomplete"
        return CellProblem(FAILED_EXPORT, message, "Correct the error, and export the file again.", cause=FAILED_EXPORT)
    return None


def missing_state_problem() -> CellProblem:
    """Return the error of a row of a delta file without status and dateLastModified."""
    message = "a row of a delta file requires status and dateLastModified"
    hint = "Fill both cells. If the file lists all records, declare it as bulk in manifest.csv."
    return CellProblem("missing_value", message, hint, "status", "", "status and date: empty")


def missing_value_problem(column: str, cell: str) -> CellProblem:
    """Return the error of an empty cell that must have a value."""
    return CellProblem("missing_value", "a value is required", "Fill the cell.", column, cell, f"{column}: empty")


def wrong_type_cell(value: JSON) -> str:
    """Return the cell for a JSON value that no cell can express, such as an object in place of a text.

    Rows that are made from JSON contain it. Its NULs make the row invalid.
    """
    return f"{_WRONG_TYPE}{_TYPE_NAMES.get(type(value), 'a number')}\0"


def _wrong_type_in(cell: str) -> str:
    """Return the type, such as "an object", if the cell contains the result of `wrong_type_cell`; else ""."""
    return cell.partition(_WRONG_TYPE)[2].partition("\0")[0]


def encoding_problem(cell: str, column: str, value: str | None, *, is_utf8: bool) -> CellProblem:
    """Return the error of a cell with NULs or bytes that are not UTF-8. `is_utf8` is True if other text is UTF-8."""
    if wrong_type := _wrong_type_in(cell):
        message = f"the value is {wrong_type}, which is not a value of this field"
        return CellProblem("bad_value", message, "Correct it in the source.", column, None, wrong_type)
    if "\0" in cell:
        return CellProblem("bad_text", "the cell contains a NUL", "Remove it, or export the file again.", column, value)
    if is_utf8:
        message = "the cell contains broken UTF-8, and the file has other letters in valid UTF-8"
        hint = "Correct the cell. If the program cuts long texts, let it count letters instead of bytes."
        return CellProblem("bad_text", message, hint, column, value, "broken UTF-8")
    if from_windows_1252(cell) is None:
        message = "the cell contains bytes that are not UTF-8"
        return CellProblem("bad_text", message, "Export the file as CSV UTF-8.", column, value, "encoding")
    message = "the file is not UTF-8, it looks like Windows-1252"
    return CellProblem("bad_text", message, "Save it as CSV UTF-8.", column, value, "encoding")


def value_problem(
    element: OneRosterField, column: str, cell: str, value: str | None, error: ValidationError
) -> CellProblem:
    """Return the error of a cell that its field rejects. `value` is the cell, or None if it is confidential."""
    message = "; ".join(map(str, error.messages))
    hint, cause = _hint_and_cause(element, column, cell)
    if repaired := lenient_cell(element, column, cell):
        effect = f"reads it as {repaired}" if column == "role" else "accepts it"
        hint, cause = f"{hint} {LENIENT_READING} {effect}.", cause and f"{cause}, tolerated"
    return CellProblem("bad_value", message, hint, column, value, cause and f"{column}: {cause}")


def placeholder_problem(column: str, cell: str) -> CellProblem:
    """Return the error of a placeholder that a strict import rejects."""
    kind = placeholder_kind(cell)
    hint = stray_blank_hint(cell)
    return CellProblem("bad_value", f"{cell!r} is {kind}", hint, column, cell, f"{column}: {kind}")


def identifier_hint(cell: str) -> str:
    """Return a hint if an id is what a spreadsheet or a script made of another text; else an empty text."""
    if hint := stray_blank_hint(cell):
        return hint
    if is_rounded(cell):
        return ROUNDED_HINT
    if re.fullmatch(_LIST_ITEM, cell):
        return LIST_HINT
    if ";" in cell or "|" in cell:
        return "If it is a list, separate its items by commas and quote the cell."
    return ""


def is_rounded(cell: str) -> bool:
    """Return True if the cell is a number that a spreadsheet rounded, such as 1.23E+11."""
    return re.fullmatch(_ROUNDED_NUMBER, cell) is not None


def stray_blank_hint(cell: str) -> str:
    """Return a hint if the cell is a placeholder, or has blanks around it or invisible characters; else ""."""
    text = cell.strip()
    if text in ERROR_VALUES:
        return ERROR_VALUE_HINT
    if text in NULL_WORDS or text.lower() in EMPTY_WORDS:
        return f"{text} is not an empty cell: write a value, or nothing if there is none."
    return STRAY_HINT if clean_id(cell) != cell else ""


def _stray_item_hint(element: OneRosterField, cell: str) -> str:
    """Return the same hint as `stray_blank_hint`, also for an item of a list of ids."""
    items = split_ids(cell) if isinstance(element, RefListField) else []
    return stray_blank_hint(cell) or next(filter(None, map(stray_blank_hint, items)), "")


def _hint_and_cause(element: OneRosterField, column: str, cell: str) -> tuple[str, str]:
    if hint := _stray_item_hint(element, cell):
        return hint, hint
    match element:
        case DateField() | DateTimeField():
            return _date_hint(column, cell)
        case BooleanField():
            return "Write true or false.", "boolean"
        case YearField() | NumberField():
            return _number_hint(element, cell)
        case UserIdsField():
            return "Write {type:id}, for example {SIS:1001}.", "form"
        case EnumField():
            return _word_hint(element, column, cell), f"word {cell}"
        case GuidField() if len(cell) > MAX_GUID_LENGTH:
            return "Shorten the identifier.", ""
    return "Correct the cell.", ""


def _number_hint(element: YearField | NumberField, cell: str) -> tuple[str, str]:
    if isinstance(element, YearField) and (years := re.fullmatch(_SCHOOL_YEARS, cell)):
        return f"Write the year in which the school year ends: {years[1][: -len(years[2])]}{years[2]}.", "years"
    if isinstance(element, YearField) and cell.endswith(".0"):
        return "Write the year without decimals.", "decimals"
    if isinstance(element, NumberField) and cell.endswith("%"):
        return "Write the number without the percent sign.", "percent sign"
    if isinstance(element, NumberField) and "," in cell:
        return "Write a point as decimal separator, and nothing between thousands.", "decimal comma"
    return "Correct the cell.", ""


def _date_hint(column: str, cell: str) -> tuple[str, str]:
    if re.fullmatch(_NO_DATE, cell):
        return "This is how some databases write that there is no date: leave the cell empty.", "no date"
    if re.fullmatch(_OTHER_DATE, cell):
        return f"Write YYYY-MM-DD: in a spreadsheet, give the column {column} this date format.", "date format"
    if re.fullmatch(_DAY_NUMBER, cell):
        hint = f"This is how a spreadsheet counts days: give the column {column} the date format YYYY-MM-DD."
        return hint, "day number"
    if re.fullmatch(_DATE_AND_TIME, cell):
        return "Write the date without the time.", "time"
    return "Write YYYY-MM-DD.", ""


def _word_hint(element: EnumField, column: str, cell: str) -> str:
    words = [word for word in element.vocabulary if word.casefold() == cell.casefold()]
    if words:
        return f"Write {words[0]}: letter case counts."
    if column == "role" and not lenient_cell(element, column, cell):
        map_hint = f"let the operator map it with the setting import_role_map, for example {ROLE_MAP_EXAMPLE}"
        return f"Use one of these roles, or {map_hint}."
    return f"Use one of these {'roles' if column == 'role' else 'words'}."
