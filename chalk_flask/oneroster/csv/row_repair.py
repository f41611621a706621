"""Repair of rows that the parser rejects, by the tolerances of lenient reading and the operator's map of roles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from marshmallow import ValidationError

from chalk_flask.oneroster import vocabularies
from chalk_flask.oneroster.csv.header import standard_names
from chalk_flask.oneroster.csv.placeholders import PlaceholderCheck
from chalk_flask.oneroster.csv.tolerances import (
    ASSISTANT_ROLES,
    DATE,
    NULL_WORD,
    ROLE_SYNONYM,
    ROLE_SYNONYMS,
    STRAY_CHARACTERS,
    USER_IDS,
    WINDOWS_1252,
    WORD,
    Tolerance,
    role_key,
)
from chalk_flask.oneroster.csv.windows_1252 import from_windows_1252, has_undecoded_bytes
from chalk_flask.oneroster.fields.composites import (
    EnumListField,
    RefListField,
    TextListField,
    UserIdsField,
    split_ids,
    split_list,
)
from chalk_flask.oneroster.fields.scalars import (
    BooleanField,
    DateField,
    EnumField,
    GuidField,
    OneRosterField,
    clean_id,
)
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["RowRepair", "decode_windows_1252", "lenient_cell", "with_comma_lists"]

_TRUTH_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), "true"),
    **dict.fromkeys(("false", "f", "no", "n", "0"), "false"),
}
_GENDER_WORDS = {"m": "male", "f": "female"}
_OTHER_DATE = r"([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})(?:[T ]00:00(?::00(?:[.,]0+)?)?(?:Z|[+-]00:?00)?)?"
"""Date with another separator, or with a midnight in UTC or without zone. The day is the same in each case."""


@dataclass
class RowRepair:
    """Repair of invalid rows of one file. Valid rows never pass here, so it costs them nothing.

    `role_map` holds the roles of the operator by `role_key`. `map_enrollment_roles` maps other unknown roles of
    enrollments to `teacher`, not primary (docs/conformance, A-10). Both are applied even if reading is not `lenient`.
    """

    resource_type: ResourceType
    header: Sequence[str]
    lenient: bool = False
    role_map: Mapping[str, str] = field(default_factory=dict)
    map_enrollment_roles: bool = False
    is_utf8: Callable[[], bool] = bool
    """Function that returns True if the file has letters beyond ASCII in valid UTF-8."""
    counts: Counter[Tolerance] = field(default_factory=Counter)
    """Number of repaired rows by tolerance."""
    mapped_roles: int = 0
    """Number of rows whose role the operator's map replaced."""
    delta: bool = False

    def __post_init__(self) -> None:
        self._index = {name: index for index, name in enumerate(standard_names(self.resource_type, self.header))}
        self._placeholders = PlaceholderCheck(self.resource_type, self.header, delta=self.delta)
        self._ids = [
            (column.header, isinstance(column.field, RefListField))
            for column in self.resource_type.columns
            if isinstance(column.field, GuidField) and column.header in self._index
        ]
        self._words = [
            (self._index[column.header], column.field)
            for column in self.resource_type.columns
            if column.name != "role" and isinstance(column.field, _WORD_FIELDS) and column.header in self._index
        ]
        self._dates = [
            self._index[column.header]
            for column in self.resource_type.columns
            if isinstance(column.field, DateField) and column.header in self._index
        ]
        self._roles = vocabularies.ENROLLMENT_ROLES if self.resource_type.name == "enrollments" else vocabularies.ROLES

    def repair(self, row: list[str]) -> list[str]:
        """Return the repaired row; the row itself if there is nothing to repair."""
        repaired = self._with_text(row) if self.lenient else row
        if len(row) == len(self.header):
            repaired = self._without_null_words(repaired) if self.lenient else repaired
            repaired = self._with_role(repaired)
            repaired = self._with_user_ids(self._with_clean_ids(repaired)) if self.lenient else repaired
            repaired = self._with_standard_forms(repaired) if self.lenient else repaired
        return repaired

    def repair_id(self, cell: str) -> str:
        """Return the id of a row as `repair` returns it."""
        return clean_id(decode_windows_1252([cell], self.is_utf8)[0]) if self.lenient else cell

    def _with_text(self, row: list[str]) -> list[str]:
        decoded = decode_windows_1252(row, self.is_utf8)
        self.counts[WINDOWS_1252] += decoded is not row
        return decoded

    def _without_null_words(self, row: list[str]) -> list[str]:
        repaired = self._placeholders.without_null_words(row)
        self.counts[NULL_WORD] += repaired is not row
        return repaired

    def _with_clean_ids(self, row: list[str]) -> list[str]:
        clean: dict[str, str] = {}
        for name, is_list in self._ids:
            cell = row[self._index[name]]
            items = split_ids(cell) if is_list else [cell]
            if any(item != clean_id(item) for item in items):
                clean[name] = ",".join(map(clean_id, items))
        self.counts[STRAY_CHARACTERS] += bool(clean)
        return self._replaced(row, **clean) if clean else row

    def _with_role(self, row: list[str]) -> list[str]:
        index = self._index.get("role")
        if index is None or not row[index] or row[index] in self._roles:
            return row
        key, name = role_key(row[index]), self.resource_type.name
        if (mapped := self.role_map.get(key, "")) in self._roles:
            self.mapped_roles += 1
            return self._replaced(row, role=mapped)
        if self.lenient and (synonym := ROLE_SYNONYMS[name].get(key)):
            self.counts[ROLE_SYNONYM] += 1
            is_assistant = name == "enrollments" and key in ASSISTANT_ROLES
            return self._replaced(row, role=synonym, **({"primary": "false"} if is_assistant else {}))
        if self.map_enrollment_roles and name == "enrollments":
            return self._replaced(row, role="teacher", primary="false")
        return row

    def _with_user_ids(self, row: list[str]) -> list[str]:
        index = self._index.get("userIds")
        if index is None or not row[index]:
            return row
        try:
            UserIdsField().from_cell(row[index])
        except ValidationError:
            self.counts[USER_IDS] += 1
            return self._replaced(row, userIds="")
        return row

    def _with_standard_forms(self, row: list[str]) -> list[str]:
        words = {index: word for index, element in self._words if (word := _standard_word(element, row[index]))}
        dates = {index: date for index in self._dates if (date := _standard_date(row[index]))}
        self.counts[WORD] += bool(words)
        self.counts[DATE] += bool(dates)
        changed = words | dates
        return [changed.get(index, cell) for index, cell in enumerate(row)] if changed else row

    def _replaced(self, row: list[str], **cells: str) -> list[str]:
        replaced = list(row)
        for name, cell in cells.items():
            if (index := self._index.get(name)) is not None:
                replaced[index] = cell
        return replaced


_WORD_FIELDS = (EnumField, EnumListField, BooleanField)


def lenient_cell(element: OneRosterField, column: str, cell: str) -> str:
    """Return the valid role, word or date by which lenient reading replaces an invalid cell; empty if there is none."""
    if column == "role" and isinstance(element, EnumField):
        name = "enrollments" if element.vocabulary == vocabularies.ENROLLMENT_ROLES else "users"
        return ROLE_SYNONYMS[name].get(role_key(cell), "")
    repaired = _standard_date(cell) if isinstance(element, DateField) else _standard_word(element, cell)
    try:
        element.from_cell(repaired)
    except ValidationError:
        return ""
    return repaired


def _standard_word(element: OneRosterField | None, cell: str) -> str:
    """Return the word of the standard for another form of it; empty if the cell is valid, or no form of a word."""
    match element:
        case EnumListField():
            items = split_list(cell)
            words = [_in_vocabulary(item, element.vocabulary) for item in items]
            word = ",".join(words) if all(words) and words != items else ""
        case EnumField():
            synonyms = _GENDER_WORDS if element.vocabulary == vocabularies.GENDERS else {}
            word = _in_vocabulary(cell, (*element.vocabulary, *element.former)) or synonyms.get(_folded(cell), "")
        case BooleanField():
            word = cell if cell.lower() in vocabularies.TRUTH else _TRUTH_WORDS.get(_folded(cell), "")
        case _:
            word = ""
    return "" if word == cell else word


def _in_vocabulary(cell: str, vocabulary: Sequence[str]) -> str:
    return next((word for word in vocabulary if word.casefold() == _folded(cell)), "")


def _folded(cell: str) -> str:
    return cell.strip().casefold()


def _standard_date(cell: str) -> str:
    """Return the day of a date in another form; empty if the cell is valid, or is no date of which the day is sure."""
    match = re.fullmatch(_OTHER_DATE, cell.strip())
    date = f"{match[1]}-{match[3]}-{match[4]}" if match else ""
    return "" if date == cell else date


def decode_windows_1252(row: list[str], is_utf8: Callable[[], bool] = bool) -> list[str]:
    """Return the row with each cell that is not UTF-8 decoded as Windows-1252.

    Return the row itself if all cells are UTF-8, or if one does not look like Windows-1252. If other text of the file
    `is_utf8`, the cells are broken UTF-8, and the row is returned too.
    """
    if not any(map(has_undecoded_bytes, row)) or is_utf8():
        return row
    decoded = [from_windows_1252(cell) if has_undecoded_bytes(cell) else cell for cell in row]
    complete = [cell for cell in decoded if cell is not None]
    return complete if len(complete) == len(row) else row


def with_comma_lists(
    resource_type: ResourceType, header: Sequence[str], rows: Iterator[list[str]]
) -> Iterator[list[str]]:
    """Yield the rows of a file separated by semicolons, with commas between the items of lists."""
    names = standard_names(resource_type, header)
    lists = {
        column.header
        for column in resource_type.columns
        if isinstance(column.field, TextListField | RefListField | UserIdsField)
    }
    indexes = [index for index, name in enumerate(names) if name in lists]
    for row in rows:
        for index in indexes:
            if index < len(row) and ";" in row[index]:
                row[index] = row[index].replace(";", ",")
        yield row
