"""Conversion of JSON records into rows of CSV files, without validation.

The import validates the rows. A value that no cell can express becomes a cell that the import rejects. The report names
its type, as that of any other invalid cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chalk_flask.oneroster.csv.diagnosis import wrong_type_cell
from chalk_flask.oneroster.csv.header import METADATA_PREFIX
from chalk_flask.oneroster.fields.composites import RefField, RefListField, TextListField, UserIdsField
from chalk_flask.oneroster.fields.scalars import BooleanField, DateField, OneRosterField
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import ACTIVE

__all__ = ["Row", "RowConverter"]

_STATE: Final = ("status", "dateLastModified")


@dataclass(frozen=True, slots=True)
class Row:
    """Row of a record: the cells of the columns of the standard, and the metadata by name."""

    cells: Sequence[str]
    metadata: Mapping[str, str]


class RowConverter:
    """Converter of the records of a collection into rows of a bulk file or, with `is_delta`, of a delta file."""

    def __init__(self, resource_type: ResourceType, *, is_delta: bool) -> None:
        self._columns, self._is_delta = resource_type.columns, is_delta

    def convert(self, record: Any) -> Row:
        """Return the row of a record. Unknown members are ignored."""
        if not isinstance(record, dict):
            return Row([wrong_type_cell(record), *[""] * (len(self._columns) - 1)], {})
        cells = [
            "" if column.field is None else self._cell(column.name, column.field, record.get(column.name))
            for column in self._columns
        ]
        return Row(cells, _metadata_cells(record.get("metadata")))

    def _cell(self, name: str, element: OneRosterField, value: Any) -> str:
        if name not in _STATE:
            return _cell(element, value)
        if self._is_delta:
            return ACTIVE if name == "status" and value is None else _cell(element, value)
        # The standard requires blank cells in bulk files. Another status than `active` is invalid there.
        return "" if name == "dateLastModified" or value == ACTIVE else _cell(element, value)


def _cell(element: OneRosterField, value: Any) -> str:
    if value is None:
        return ""
    match element:
        case RefListField():
            return _list_cell([_reference_cell(item) for item in _as_list(value)])
        case RefField():
            return _reference_cell(value)
        case TextListField():
            return _list_cell([_scalar_cell(item) for item in value]) if _is_list(value) else wrong_type_cell(value)
        case UserIdsField():
            return _user_ids_cell(value)
        case BooleanField():
            return _scalar_cell(value) if isinstance(value, bool | str) else wrong_type_cell(value)
        case DateField():
            text = _scalar_cell(value)
            return text[:10] if text[10:11] in ("T", "t", " ") else text
        case _:
            return _scalar_cell(value)


def _scalar_cell(value: Any) -> str:
    """Return the cell of a text, number or boolean."""
    if isinstance(value, str):
        return value
    return wrong_type_cell(value) if isinstance(value, dict | list | None) else orjson.dumps(value).decode()


def _reference_cell(value: Any) -> str:
    """Return the id in a reference. An id alone is accepted too."""
    if isinstance(value, dict):
        value = value.get("sourcedId")
    return _scalar_cell(value)


def _user_ids_cell(value: Any) -> str:
    items = _as_list(value)
    if not all(isinstance(item, dict) for item in items):
        return wrong_type_cell(value)
    pairs = [(_scalar_cell(item.get("type") or ""), _scalar_cell(item.get("identifier") or "")) for item in items]
    return _list_cell([f"{{{kind}:{identifier}}}" for kind, identifier in pairs])


def _list_cell(cells: Sequence[str]) -> str:
    """Return the cell of a list. A comma within an item would make two items of it."""
    return ",".join(cells)


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _metadata_cells(metadata: Any) -> Mapping[str, str]:
    if not isinstance(metadata, dict):
        return {}
    cells = {
        f"{METADATA_PREFIX}{name}": value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in metadata.items()
        if value is not None and name and name == name.strip()
    }
    return {name: cell for name, cell in cells.items() if cell}
