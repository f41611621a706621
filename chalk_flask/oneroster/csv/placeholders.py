"""Placeholders in cells that accept any text: error values of spreadsheets, and words for an absent value.

docs/conformance, I-36, states what is done with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chalk_flask.oneroster.csv.header import is_metadata, standard_names
from chalk_flask.oneroster.fields.composites import EnumListField, TextListField
from chalk_flask.oneroster.fields.scalars import NameField, OneRosterField, TextField, placeholder_kind
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import ERROR_VALUES, NULL_WORDS, PLACEHOLDERS

__all__ = ["PlaceholderCheck", "PlaceholderSummary"]

_STATE_COLUMNS = ("status", "dateLastModified")


class _Column(NamedTuple):
    """Column of the header. `field` is None for metadata."""

    position: int
    name: str
    field: OneRosterField | None


class PlaceholderSummary(NamedTuple):
    """Number of cells of a column with placeholders of one kind, and the most frequent of them."""

    column: str
    kind: str
    cells: int
    example: str


class PlaceholderCheck:
    """Check of the placeholders in the rows of one file.

    With `strict` they are errors, except words that may be names of persons. With `lenient` a row must not have words
    for an absent value in cells that may be empty: `without_null_words` removes them first.
    """

    def __init__(
        self,
        resource_type: ResourceType,
        header: Sequence[str],
        *,
        delta: bool = False,
        lenient: bool = False,
        strict: bool = False,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """Number of cells by column and placeholder, in rows that were accepted."""
        self._lenient = lenient
        self._strict = strict
        fields = {column.header: column.field for column in resource_type.columns}
        columns = [
            _Column(index, name, fields.get(name))
            for index, name in enumerate(standard_names(resource_type, header))
            if is_metadata(name) or fields.get(name)
        ]
        self._texts = [column for column in columns if _accepts_text(column.field)]
        self._texts_by_name = {column.name: column for column in self._texts}
        self._optional = [column for column in columns if _may_be_empty(column, delta=delta)]
        self._optional_texts = [column for column in self._texts if column in self._optional]

    @property
    def has_text_columns(self) -> bool:
        """True if the file has columns that accept any text."""
        return bool(self._texts)

    def accepts(self, row: Sequence[str]) -> bool:
        """Return True if the placeholders of a row may stay."""
        if self._lenient and any(_is_null_word(column, row[column.position]) for column in self._optional_texts):
            return False
        return not (self._strict and any(_is_no_name(column.field, row[column.position]) for column in self._texts))

    def is_error(self, name: str, text: str) -> bool:
        """Return True if a strict import rejects this text in a column that accepts any text."""
        column = self._texts_by_name.get(name)
        return self._strict and column is not None and _is_no_name(column.field, text)

    def count(self, row: Sequence[str]) -> None:
        """Count the placeholders of an accepted row."""
        found = ((column.name, row[column.position]) for column in self._texts)
        self.counts.update((name, text) for name, text in found if text in PLACEHOLDERS)

    def summaries(self) -> Iterator[PlaceholderSummary]:
        """Yield a summary for each column and kind of the counted placeholders, in the order of the columns."""
        for column in self._texts if self.counts else ():
            by_kind: dict[str, Counter[str]] = {}
            for (name, word), count in sorted(self.counts.items()):
                if name == column.name:
                    by_kind.setdefault(placeholder_kind(word), Counter())[word] += count
            for kind, words in by_kind.items():
                yield PlaceholderSummary(column.name, kind, words.total(), words.most_common(1)[0][0])

    def without_null_words(self, row: list[str]) -> list[str]:
        """Return the row with each word for an absent value removed whose cell may be empty; or the row itself."""
        found = {column.position for column in self._optional if _is_null_word(column, row[column.position])}
        return ["" if position in found else text for position, text in enumerate(row)] if found else row


def _accepts_text(field: OneRosterField | None) -> bool:
    is_text = isinstance(field, TextField | TextListField) and not isinstance(field, EnumListField)
    return field is None or is_text


def _may_be_empty(column: _Column, *, delta: bool) -> bool:
    return column.field is None or not (column.field.required_in_csv or (delta and column.name in _STATE_COLUMNS))


def _is_null_word(column: _Column, text: str) -> bool:
    return text in NULL_WORDS and _is_no_name(column.field, text)


def _is_no_name(field: OneRosterField | None, text: str) -> bool:
    """Return True for a placeholder that cannot be the name of a person in this field."""
    return text in ERROR_VALUES or (text in NULL_WORDS and not (isinstance(field, NameField) and text.isalpha()))
