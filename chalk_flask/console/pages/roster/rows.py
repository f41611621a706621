"""Rows of a list of records, and the fields and changes of one record, as the templates show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from chalk_flask.console.pages.roster.catalog import BrowsedCollection, Column, column_of, title_of
from chalk_flask.console.pages.roster.labels import RecordLink, RecordLinks, Reference, record_url, references_of
from chalk_flask.oneroster.fields.composites import MetadataField, RefField
from chalk_flask.oneroster.fields.scalars import DateOrDateTimeField
from chalk_flask.oneroster.vocabularies import TO_BE_DELETED

if TYPE_CHECKING:
    from chalk_flask.console.context import ConsoleRequest

__all__ = [
    "Cell",
    "ChangedField",
    "Row",
    "changed_fields",
    "fields_of",
    "headers_of",
    "page_size",
    "read_references",
    "rows_of",
]

PAGE_SIZE = 25
"""Records on a page of a list."""
MAX_LINKS_IN_CELL = 5
"""Maximum number of references that a cell of a list links. The page of the record has all of them."""
MAX_LINKS_IN_FIELD = 40
MAX_LINKS_IN_CHANGE = 10
MAX_TEXT_LENGTH = 300
"""Maximum length in characters of a text in a list. The page of the record has the whole text."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Value of one field. `kind` is that of its column; `more` counts the references that are left out."""

    label: str
    kind: str
    text: str
    links: tuple[RecordLink, ...] = ()
    more: int = 0

    @property
    def is_empty(self) -> bool:
        """True if the field has no value."""
        return not self.text and not self.links


@dataclass(frozen=True, slots=True)
class Row:
    """Record in a list. Its first cell is a link to its page."""

    title: str
    href: str
    is_deleted: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ChangedField:
    """Field of a record with its values before and after a change."""

    label: str
    before: Cell
    after: Cell


def page_size(console: ConsoleRequest) -> int:
    """Return the number of records on a page of a list, which the setting `max_limit` may reduce."""
    return min(PAGE_SIZE, console.services.settings.max_limit or PAGE_SIZE)


def rows_of(
    collection: BrowsedCollection,
    records: Iterable[Mapping[str, Any]],
    links: RecordLinks,
    columns: Sequence[Column] | None = None,
) -> list[Row]:
    """Return the rows of a list of records, with these columns or with those of the collection."""
    chosen = columns or collection.columns
    name = collection.resource_type.name
    records = list(records)
    links.read(
        reference
        for record in records
        for column in chosen
        for reference in _references_of(collection, column, record, MAX_LINKS_IN_CELL)
    )
    return [
        Row(
            title=title_of(name, record),
            href=record_url(name, record["sourcedId"]),
            is_deleted=record.get("status") == TO_BE_DELETED,
            cells=tuple(_cell(collection, column, record, links, MAX_LINKS_IN_CELL) for column in chosen),
        )
        for record in records
    ]


def _references_of(
    collection: BrowsedCollection, column: Column, record: Mapping[str, Any], max_links: int
) -> list[Reference]:
    """Return the first references in a cell."""
    field, value = collection.resource_type.fields[column.name], record.get(column.name)
    return references_of(field.target, value)[:max_links] if isinstance(field, RefField) and value else []


def headers_of(columns: Iterable[Column]) -> list[dict[str, Any]]:
    """Return the headers of a table whose rows have these columns, without links that sort."""
    return [{"label": column.label, "numeric": column.is_numeric} for column in columns]


def fields_of(collection: BrowsedCollection, record: Mapping[str, Any], links: RecordLinks) -> Iterator[Cell]:
    """Yield the fields that a record has, in the order of the standard; status and time have their own place."""
    for name, field in collection.resource_type.fields.items():
        if name in record and record[name] != [] and name not in ("status", "dateLastModified"):
            yield _cell(collection, column_of(name, field), record, links, MAX_LINKS_IN_FIELD, max_length=None)


def read_references(
    collection: BrowsedCollection, changes: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], links: RecordLinks
) -> None:
    """Read the names of all records to which changed references lead, at once. A change is two states of a record."""
    links.read(
        reference
        for before, after in changes
        for column in _changed_columns(collection, before, after)
        for record in (before, after)
        for reference in _references_of(collection, column, record, MAX_LINKS_IN_CHANGE)
    )


def changed_fields(
    collection: BrowsedCollection, before: Mapping[str, Any], after: Mapping[str, Any], links: RecordLinks
) -> list[ChangedField]:
    """Return the fields that differ between two states of a record, without status and time.

    Of an object, such as the metadata, each member that differs is a field.
    """
    return [
        field
        for column in _changed_columns(collection, before, after)
        for field in _changed_members(collection, column, before, after, links)
    ]


def _changed_members(
    collection: BrowsedCollection,
    column: Column,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    links: RecordLinks,
) -> Iterator[ChangedField]:
    """Yield the changed field of a column, or the members that differ if the field is an object."""
    states = before, after
    if not isinstance(collection.resource_type.fields[column.name], MetadataField):
        cells = (_cell(collection, column, state, links, MAX_LINKS_IN_CHANGE) for state in states)
        yield ChangedField(column.label, *cells)
        return
    objects = [state.get(column.name) or {} for state in states]
    for name in sorted(objects[0].keys() | objects[1].keys()):
        texts = [_shortened(_text_of(members.get(name))) for members in objects]
        if objects[0].get(name) != objects[1].get(name):
            label = f"{column.label}: {name}"
            yield ChangedField(label, *(Cell(label, "text", text) for text in texts))


def _changed_columns(
    collection: BrowsedCollection, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Column]:
    for name, field in collection.resource_type.fields.items():
        if name not in ("status", "dateLastModified") and (before.get(name) or None) != (after.get(name) or None):
            yield column_of(name, field)


def _cell(
    collection: BrowsedCollection,
    column: Column,
    record: Mapping[str, Any],
    links: RecordLinks,
    max_links: int,
    max_length: int | None = MAX_TEXT_LENGTH,
) -> Cell:
    value = record.get(column.name)
    field = collection.resource_type.fields[column.name]
    if isinstance(field, RefField) and value:
        references = value if isinstance(value, list) else [value]
        found = links.links(field.target, references[:max_links])
        return Cell(column.label, column.kind, "", found, len(references) - len(found))
    text = _text_of(value)
    if isinstance(field, DateOrDateTimeField):
        text = field.to_cell(text)
    return Cell(column.label, column.kind, text if max_length is None else _shortened(text, max_length))


def _shortened(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    return text if len(text) <= max_length else text[:max_length] + "…"


def _text_of(value: Any) -> str:
    """Return a value as text: lists of texts with commas, other objects as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() if all(isinstance(item, str) for item in value):
            return ", ".join(value)
        case list() if all(isinstance(item, dict) and item.keys() == {"type", "identifier"} for item in value):
            return ", ".join(f"{item['type']}: {item['identifier']}" for item in value)
        case _:
            return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
