"""Header of a data file: the names of its columns, and what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from chalk_flask.oneroster.csv.file_format import one_cell_problem
from chalk_flask.oneroster.csv.program_messages import is_error_message, is_program_message
from chalk_flask.oneroster.csv.windows_1252 import has_undecoded_bytes
from chalk_flask.oneroster.resource_type import Column, ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE, DELETED

__all__ = [
    "METADATA_PREFIX",
    "HeaderProblem",
    "header_problems",
    "is_metadata",
    "is_optional",
    "missing_optional_columns",
    "standard_names",
    "with_standard_case",
]

METADATA_PREFIX = "metadata."
MAX_COLUMNS = 1000
MAX_SEPARATE_COLUMNS = 3
"""Number of missing columns up to which each has a problem of its own."""
ADD_COLUMN_HINT = "Add what is missing: every column of the standard is required, even if it is empty."
MIN_SIMILARITY = 0.85
"""Share of equal letters, from 0 to 1, from which a name counts as a misspelling of another."""

USER_COLUMNS_OF_1_2 = frozenset({"userMasterIdentifier", "primaryOrgSourcedId", "preferredGivenName", "pronouns"})
"""Columns of `users.csv` in OneRoster 1.2, where roles have a file of their own."""

_KEY_COLUMN = "sourcedId"
_BYTE_ORDER_MARK = "\ufeff"
# Patterns are texts: `re` compiles them at their first use, and most headers need none of them.
_COLUMN_NAME = r"[A-Za-z][A-Za-z0-9_ .-]{0,40}"
"""Name that a report may repeat. Other names may be cells with personal data."""
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_NOT_ALPHANUMERIC = r"[\W_]+"


class HeaderProblem(NamedTuple):
    """Error or warning about a header."""

    code: str
    message: str
    hint: str
    column: str | None = None
    is_warning: bool = False


def header_problems(
    resource_type: ResourceType, header: Sequence[str], optional: Set[str] = frozenset()
) -> Iterator[HeaderProblem]:
    """Yield the errors and warnings about the header of a file.

    Every column of the standard is required, see the table of columns in CSV Tables 1.1. Those that are not stored may
    be missing, with a warning. Those in `optional` may be missing without one.
    """
    if error := _unusable_header(resource_type, header):
        yield error
        return
    names = standard_names(resource_type, header)
    known_names = {column.header for column in resource_type.columns}
    used_names = {name for name in names if name in known_names or is_metadata(name)}
    missing = [column for column in resource_type.columns if column.header not in names]
    misspelled = _misspelled(missing, [name for name in dict.fromkeys(names) if name and name not in used_names])
    unnamed = [number for number, name in enumerate(names, 1) if not name]
    missing = [column for column in missing if column.header not in optional or column.header in misspelled]
    lost = [column.header for column in missing if column.field and column.header not in misspelled]
    if len(lost) > MAX_SEPARATE_COLUMNS:
        yield HeaderProblem("missing_column", f"{len(lost)} columns are missing: {', '.join(lost)}", ADD_COLUMN_HINT)
    for column in missing:
        is_listed = len(lost) <= MAX_SEPARATE_COLUMNS if column.header in lost else bool(column.field) or not lost
        if is_listed:
            yield _missing_column(column, misspelled.get(column.header), unnamed)
    for name in sorted(name for name in used_names if names.count(name) > 1):
        yield HeaderProblem("repeated_column", "the column occurs twice", "Remove one of them.", name)
    yield from _early_metadata(names, known_names)
    yield from _unknown_columns(names, used_names | set(misspelled.values()))
    if unnamed and all(column.field is None for column in missing):
        message = f"column {', '.join(map(str, unnamed))} of the header has no name"
        yield HeaderProblem("unnamed_column", message, "It was ignored. Name or remove it.", None, True)


def _unknown_columns(names: Sequence[str], used_names: Set[str]) -> Iterator[HeaderProblem]:
    """Yield the warnings about columns that are ignored.

    Names that may be cells of a record, with personal data, are replaced by their positions.
    """
    unknown = {number: name for number, name in enumerate(names, 1) if name and name not in used_names}
    doubtful = [number for number, name in unknown.items() if name != METADATA_PREFIX]
    is_damaged = len({unknown[number] for number in doubtful}) < len(doubtful)
    is_damaged |= bool(doubtful) and "" in names[doubtful[0] : doubtful[-1]]
    is_damaged |= not all(re.fullmatch(_COLUMN_NAME, unknown[number]) for number in doubtful)
    harmless = unknown.keys() - doubtful if is_damaged else unknown.keys()
    for number in sorted(harmless):
        message = "not a column of the standard"
        yield HeaderProblem("unknown_column", message, "It was ignored.", unknown[number], True)
    if numbers := sorted(unknown.keys() - harmless):
        one = len(numbers) == 1
        place = f"column{'' if one else 's'} {', '.join(map(str, numbers))}"
        message = f"{place} {'is not a column' if one else 'are not columns'} of the standard"
        yield HeaderProblem("unknown_column", message, f"{'It was' if one else 'They were'} ignored.", None, True)


def _has_first_record(resource_type: ResourceType, header: Sequence[str]) -> bool:
    """Return True if the first record follows the names of the columns, because a line break was lost.

    The line break was replaced by a comma or by nothing. Then the last name and the first id are one cell.
    """
    names = standard_names(resource_type, header[:MAX_COLUMNS])
    known_names = {column.header for column in resource_type.columns}
    return any(
        _is_record(names, start)
        for start, name in enumerate(names)
        if name and name not in known_names and _KEY_COLUMN in names[:start]
    )


def _is_record(names: Sequence[str], start: int) -> bool:
    """Return True if the cells from `start` are a record, with its status and date where the names before have them."""
    columns, record = names[:start], names[start:]
    cells = dict(zip(columns, record, strict=False))
    status, date = cells.get("status"), cells.get("dateLastModified")
    if status is None or date is None or not any(record[1:]) or 2 * len(record) < len(columns):
        return False
    if any(name.startswith(METADATA_PREFIX) for name in record[1:]):
        return False
    return status in ("", ACTIVE, *DELETED) and (not date or bool(re.match(_DATE, date)))


def _unusable_header(resource_type: ResourceType, header: Sequence[str]) -> HeaderProblem | None:
    """Return the one error of a header that is not the header of this file at all."""
    if _has_first_record(resource_type, header):
        message = "the first record is in the header row: the line break after the header is missing"
        return HeaderProblem("bad_header", message, "Export the file again, or write the first record into a new row.")
    if len(header) > MAX_COLUMNS:
        message = f"the header has {len(header)} columns; at most {MAX_COLUMNS} are allowed"
        return HeaderProblem("too_many_columns", message, "Remove the columns that the standard does not list.")
    if any("\0" in name or has_undecoded_bytes(name) for name in header):
        return HeaderProblem("bad_text", "the header contains NULs or bytes that are not UTF-8", "Export as UTF-8.")
    columns = [column.header for column in resource_type.columns]
    hint = f"Write the names of the columns into the first row: {','.join(columns[:4])},..."
    if not any(map(str.strip, header)):
        return HeaderProblem("bad_header", "the first row is empty", hint)
    if header[0].strip().lower().startswith("sep="):
        return HeaderProblem("bad_header", "the first row is an instruction for Excel, not the header", hint)
    if is_program_message(header) or is_error_message(header):
        message = "the first row is a message of the exporting program"
        hint = f"Correct the export, so that the first row has the names of the columns: {','.join(columns[:4])},..."
        return HeaderProblem("bad_header", message, hint)
    if error := one_cell_problem(header, columns):
        return HeaderProblem(*error)
    if not {_folded(name) for name in standard_names(resource_type, header)} & set(map(_folded, columns)):
        return HeaderProblem("bad_header", "the first row has none of the columns of this file", hint)
    if header[0].strip()[:1] == "'" and header[0].strip(" '") in columns:
        return HeaderProblem("bad_header", "the names are quoted with single quotes", 'Use double quotes (").')
    return _other_header(resource_type, header)


def _other_header(resource_type: ResourceType, header: Sequence[str]) -> HeaderProblem | None:
    """Return the error of a header that belongs to another file, or to another version of OneRoster."""
    if resource_type.name == "users" and "role" not in header and USER_COLUMNS_OF_1_2.intersection(header):
        hint = "Export OneRoster 1.1, where each user has one role."
        return HeaderProblem("bad_header", "the columns are those of OneRoster 1.2", hint)
    if other := _file_with_header(resource_type, header):
        message = f"the columns are those of {other}.csv"
        return HeaderProblem("bad_header", message, f"Export the content of {resource_type.name}.csv into this file.")
    return None


def _file_with_header(resource_type: ResourceType, header: Sequence[str]) -> str | None:
    """Return the name of the other file whose columns are all in a header; None if the header fits this file."""

    def lacks(other: ResourceType) -> bool:
        names = standard_names(other, header)
        return any(column.field and column.header not in names for column in other.columns)

    if not lacks(resource_type):
        return None
    others = [name for name, other in FILES.items() if other is not resource_type and not lacks(other)]
    return max(others, key=lambda name: len(FILES[name].columns), default=None)


def _early_metadata(names: Sequence[str], known_names: Set[str]) -> Iterator[HeaderProblem]:
    """Yield a warning if metadata precedes columns of the standard, which all come first (CSV Tables 1.1)."""
    last_known = max((index for index, name in enumerate(names) if name in known_names), default=0)
    if early := [name for name in names[:last_known] if is_metadata(name)]:
        hint = "It was imported. Put metadata columns after all columns of the standard."
        yield HeaderProblem("metadata_order", "a metadata column precedes standard columns", hint, early[0], True)


def _missing_column(column: Column, misspelled: str | None, unnamed: Sequence[int]) -> HeaderProblem:
    name = column.header
    if column.field is None:
        return HeaderProblem("missing_column", "the column is missing", "It is not needed.", name, True)
    if misspelled is not None and _BYTE_ORDER_MARK in misspelled:
        message = f"the name {name} begins with a byte order mark that does not belong there"
        return HeaderProblem("misspelled_column", message, "Save the file again as CSV UTF-8.", name)
    if misspelled is not None:
        message = f"the column {name} is called {misspelled!r}"
        return HeaderProblem("misspelled_column", message, f"Rename {misspelled} to {name}.", name)
    if unnamed:
        message = f"the column {name} is missing, and column {', '.join(map(str, unnamed))} has no name"
        return HeaderProblem("missing_column", message, f"Write {name} into the header of its column.", name)
    return HeaderProblem("missing_column", f"the column {name} is missing", ADD_COLUMN_HINT, name)


def _misspelled(missing: Sequence[Column], unknown: Sequence[str]) -> dict[str, str]:
    """Return the unknown name that is most likely a misspelling, by missing column."""
    by_key = {_folded(name): name for name in reversed(unknown)}
    found = {column.header: by_key.pop(key) for column in missing if (key := _folded(column.header)) in by_key}
    for column in missing:
        if column.header not in found:
            for match in difflib.get_close_matches(_folded(column.header), by_key, 1, MIN_SIMILARITY):
                found[column.header] = by_key.pop(match)
    return found


def _folded(name: str) -> str:
    """Return a name without letter case, blanks, marks and underscores."""
    return re.sub(_NOT_ALPHANUMERIC, "", name).casefold()


def with_standard_case(resource_type: ResourceType, header: Sequence[str]) -> list[str]:
    """Return the header with each name of the standard that is written in another letter case replaced."""
    names = standard_names(resource_type, header)
    former = (old for old, _ in resource_type.former_columns)
    by_folded_name = {name.casefold(): name for name in (*former, *(column.header for column in resource_type.columns))}
    present = set(names)
    replaced: list[str] = []
    for original, name in zip(header, names, strict=True):
        standard = by_folded_name.get(name.casefold(), name)
        replaced.append(original if name == standard or standard in present else standard)
    return replaced


def missing_optional_columns(resource_type: ResourceType, header: Sequence[str], *, delta: bool) -> list[str]:
    """Return the stored columns that the header lacks and that need no value in any row."""
    names = set(standard_names(resource_type, header))
    missing = (column for column in resource_type.columns if column.header not in names)
    return [column.header for column in missing if column.field is not None and is_optional(column, delta=delta)]


def is_optional(column: Column, *, delta: bool) -> bool:
    """Return True if the cells of a column can be empty in every row."""
    element = column.field
    if element is None:
        return True
    is_state = column.name in ("status", "dateLastModified")
    return column.name != _KEY_COLUMN and not (element.required_in_csv or element.optional_if or (delta and is_state))


def is_metadata(name: str) -> bool:
    """Return True for the name of a metadata column. A name that is only the prefix is none."""
    return name.startswith(METADATA_PREFIX) and name != METADATA_PREFIX


def standard_names(resource_type: ResourceType, header: Sequence[str]) -> list[str]:
    """Return the stripped column names of a header. Names of OneRoster 1.0 are replaced by those of 1.1."""
    former = dict(resource_type.former_columns)
    return [former.get(name.strip(), name.strip()) for name in header]
