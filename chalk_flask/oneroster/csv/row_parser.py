"""Parser of CSV rows.

`RowParser.parse` is the fast path. Its checks, compiled from the schemas, only separate valid rows from invalid ones.
`RowParser.problems_in` is the slow path for an invalid row. It tests cell by cell and yields every error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, TypeAlias, cast

import orjson
from marshmallow import ValidationError

from backends import Value
from chalk_flask.oneroster import vocabularies
from chalk_flask.oneroster.csv.diagnosis import (
    CellProblem,
    dashes_problem,
    encoding_problem,
    length_problem,
    message_problem,
    missing_state_problem,
    missing_value_problem,
    placeholder_problem,
    repeated_header_problem,
    value_problem,
)
from chalk_flask.oneroster.csv.header import METADATA_PREFIX, is_metadata, standard_names
from chalk_flask.oneroster.csv.placeholders import PlaceholderCheck
from chalk_flask.oneroster.csv.windows_1252 import has_undecoded_bytes
from chalk_flask.oneroster.fields.composites import TextListField, exceeded_limit, split_list
from chalk_flask.oneroster.fields.scalars import (
    JSON,
    MAX_GUID_LENGTH,
    FastParser,
    OneRosterField,
    clean_id,
    fold,
    is_valid_guid,
    is_valid_id_cell,
)
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, Column, ResourceType
from chalk_flask.oneroster.vocabularies import PLACEHOLDERS

__all__ = [
    "BASE_COLUMNS",
    "InvalidRowError",
    "ParsedRecord",
    "ParsedRow",
    "RowParser",
    "RowStatistics",
    "encode",
]

STATUS_AND_DATE = ("status", "dateLastModified")
BASE_COLUMNS = ("sourcedId", *STATUS_AND_DATE)
"""Columns and members that every class has."""
RULE_CHARACTERS = "-=+_ "
"""Characters of the line that programs print below a header."""
QUOTES = "'“”„«»"
"""Characters that begin a cell which is quoted in another way than CSV requires."""
MAX_CELLS_OF_MESSAGE = 2
"""Number of cells with text up to which a row of the right length may be a message of a program."""
MAX_CACHED_CELLS = 10_000
"""Maximum number of cells per column that are checked, once each, for codes that the standard does not list."""


class InvalidRowError(Exception):
    """Error of a row that fails a check. `RowParser.problems_in` yields the details."""


ParsedRecord: TypeAlias = tuple[str, bytes, dict[str, Value]]
"""The first three items of a `ParsedRow`, all that is needed of a file without derived fields."""


class ParsedRow(NamedTuple):
    """Valid row: sourcedId, body with `NO_TIMESTAMP` encoded as JSON, comparison keys, and the body as an object.

    The row of a delta file that deletes a record has an empty body, and `encoded` is empty.
    """

    key: str
    encoded: bytes
    values: dict[str, Value]
    body: dict[str, JSON]


def encode(body: dict[str, JSON]) -> bytes:
    """Return the body as JSON. Raises InvalidRowError if a text is not UTF-8."""
    try:
        return orjson.dumps(body)
    except TypeError:
        raise InvalidRowError from None


def is_not_stored(key: str) -> bool:
    """Return False: without a stored roster, no record is stored."""
    return False


class RowStatistics(NamedTuple):
    """Numbers and local codes of the rows of a parser, see the fields of `RowParser` and `PlaceholderCheck.counts`."""

    rows_with_status_or_date: int
    rows_with_invalid_date: int
    local_codes: dict[str, set[str]]
    placeholders: dict[tuple[str, str], int]


CellStep: TypeAlias = tuple[int, str, FastParser, str, tuple[str, ...], str | None]
"""Parsing step of a cell: index, JSON name, parser, stored field, further stored fields, and value of an empty cell.

The last item is None (no value), "" (an empty list), or the JSON name of the field whose value is copied.
"""


@dataclass
class RowParser:
    """Parser of the rows of one file.

    The header must have every stored column. Rows of a `delta` file must have status and dateLastModified. A row that
    deletes a record must have its sourcedId too, but no other value. `lenient` and `strict` are those of
    `PlaceholderCheck`.
    """

    resource_type: ResourceType
    header: Sequence[str]
    delta: bool = False
    is_utf8: Callable[[], bool] = bool
    """Function that returns True if the file has letters beyond ASCII in valid UTF-8."""
    lenient: bool = False
    strict: bool = False
    is_stored: Callable[[str], bool] = is_not_stored
    """Function that returns True if a record with this id is stored. It is called for ids that are invalid in cells."""
    rows_with_status_or_date: int = 0
    """Number of parsed rows that have a status or a dateLastModified."""
    rows_with_invalid_date: int = 0
    """Number of parsed rows of a bulk file whose dateLastModified is invalid, and ignored (docs/conformance, I-01)."""
    local_codes: dict[str, set[str]] = field(default_factory=dict)
    """Codes that are not on the list of the standard, by column."""

    def __post_init__(self) -> None:
        self._names = standard_names(self.resource_type, self.header)
        self._width = len(self._names)
        self._columns = {column.header: column for column in self.resource_type.columns}
        self._index = {name: index for index, name in enumerate(self._names)}
        own_columns = [column for column in self.resource_type.columns if column.name not in BASE_COLUMNS]
        self._steps = [self._cell_step(column) for column in own_columns if column.field is not None]
        required = [self._index[column.header] for column in self.resource_type.columns if self._is_required(column)]
        self._required_indexes = frozenset(required)
        self._has_conditional_fields = any(element.optional_if for element in self.resource_type.fields.values())
        # The first index is repeated because itemgetter with one index returns no tuple.
        self._required_cells = cast(Callable[[Sequence[str]], Sequence[str]], itemgetter(*required, required[0]))
        self._metadata = [
            (index, name[len(METADATA_PREFIX) :]) for name, index in self._index.items() if is_metadata(name)
        ]
        # If all columns together are within the limits, each row is.
        self._may_exceed_limits = bool(exceeded_limit(METADATA_PREFIX + name for _, name in self._metadata))
        self._base_cells = itemgetter(*(self._index[name] for name in BASE_COLUMNS))
        self.placeholders = PlaceholderCheck(
            self.resource_type, self.header, delta=self.delta, lenient=self.lenient, strict=self.strict
        )
        self._has_text_columns = self.placeholders.has_text_columns

    def parse(self, row: list[str]) -> ParsedRow:
        """Return the record of a row. Raises InvalidRowError or ValidationError; see `problems_in` for the details."""
        return ParsedRow(*self._parse(row))

    def parse_record(self, row: list[str]) -> ParsedRecord:
        """Return the record as `parse` does, without the body as an object. This saves time for millions of rows."""
        return self._parse(row)[:3]

    def _parse(self, row: list[str]) -> tuple[str, bytes, dict[str, Value], dict[str, JSON]]:
        if self.delta and self._deletes(row):
            return self._parse_deletion(row)
        if len(row) != self._width or "" in self._required_cells(row) or "\0" in "".join(row):
            raise InvalidRowError
        key, status, date = self._base_cells(row)
        has_placeholders = self._has_text_columns and not PLACEHOLDERS.isdisjoint(row)
        if not is_valid_id_cell(key) or (has_placeholders and not self.placeholders.accepts(row)):
            raise InvalidRowError
        has_state = status or date
        status = self._parse_state(status, date) if has_state else vocabularies.ACTIVE
        body: dict[str, JSON] = {"sourcedId": key, "status": status, "dateLastModified": NO_TIMESTAMP}
        values: dict[str, Value] = {"status": status}
        self._parse_cells(row, body, values)
        if self._has_conditional_fields and self.resource_type.missing_required(body):
            raise InvalidRowError
        if self._metadata:
            self._add_metadata(row, body, values)
        encoded = encode(body)
        if has_state:
            self._count_state(date)
        if has_placeholders:
            self.placeholders.count(row)
        return key, encoded, values, body

    def _parse_cells(self, row: list[str], body: dict[str, JSON], values: dict[str, Value]) -> None:
        for index, name, parse, path, more_paths, default in self._steps:
            if cell := row[index]:
                body[name], keys = parse(cell)
                if keys:
                    values[path] = keys[0]
                    if more_paths:
                        values.update(zip(more_paths, keys[1:], strict=True))
                    continue
                del body[name]
            if cell or default is not None:
                if cell and index in self._required_indexes:
                    raise InvalidRowError
                _set_default(name, default, body, values)

    def _add_metadata(self, row: list[str], body: dict[str, JSON], values: dict[str, Value]) -> None:
        if metadata := {name: row[index] for index, name in self._metadata if row[index]}:
            if self._may_exceed_limits and self._exceeded_limit(row):
                raise InvalidRowError
            body["metadata"] = metadata
            values.update((METADATA_PREFIX + name, (fold(cell),)) for name, cell in metadata.items())

    def _exceeded_limit(self, row: list[str]) -> str:
        return exceeded_limit(METADATA_PREFIX + name for index, name in self._metadata if row[index])

    def _is_required(self, column: Column) -> bool:
        return (self.delta and column.name in STATUS_AND_DATE) or (
            column.field is not None and column.field.required_in_csv
        )

    def _deletes(self, row: list[str]) -> bool:
        index = self._index["status"]
        return index < len(row) and row[index] in vocabularies.DELETED

    def _parse_deletion(self, row: list[str]) -> tuple[str, bytes, dict[str, Value], dict[str, JSON]]:
        key, _, date = self._base_cells(row) if len(row) == len(self._names) else ("", "", "")
        if not (key and date) or len(key) > MAX_GUID_LENGTH or "\0" in key:
            raise InvalidRowError
        if (clean_id(key) != key or key in PLACEHOLDERS) and not self.is_stored(key):
            raise InvalidRowError
        self._base_value("dateLastModified", date)
        return key, b"", {"status": vocabularies.TO_BE_DELETED}, {}

    def statistics(self) -> RowStatistics:
        """Return the statistics of the rows that were parsed so far."""
        return RowStatistics(
            self.rows_with_status_or_date, self.rows_with_invalid_date, self.local_codes, dict(self.placeholders.counts)
        )

    def add_statistics(self, statistics: RowStatistics) -> None:
        """Add the statistics of another parser of other rows of the file."""
        self.rows_with_status_or_date += statistics.rows_with_status_or_date
        self.rows_with_invalid_date += statistics.rows_with_invalid_date
        for header, codes in statistics.local_codes.items():
            self.local_codes.setdefault(header, set()).update(codes)
        self.placeholders.counts.update(statistics.placeholders)

    def key(self, row: list[str]) -> str:
        """Return the sourcedId of a row that may be invalid; empty if it has none."""
        index = self._index["sourcedId"]
        return row[index] if index < len(row) else ""

    def is_key_certain(self, row: list[str]) -> bool:
        """Return True if `key` returns the id of the record, although its row is invalid.

        If a row has too few or too many cells, its id must be in the first column. It must not look like the rest of
        another row, or like several rows in one.
        """
        key, cells = self.key(row), len(self._names)
        if not key or not is_valid_guid(key) or has_undecoded_bytes(key) or key in PLACEHOLDERS:
            return False
        if len(row) == cells:
            return True
        is_one_row = 1 < len(row) < 2 * cells - 1 and not any("\n" in cell or "\r" in cell for cell in row)
        return is_one_row and self._index["sourcedId"] == 0 and key[0] not in QUOTES

    def _parse_state(self, status: str, date: str) -> str:
        if date and (self.delta or has_undecoded_bytes(date)):
            self._base_value("dateLastModified", date)
        return str(self._base_value("status", status)) if status else vocabularies.ACTIVE

    def _count_state(self, date: str) -> None:
        self.rows_with_status_or_date += 1
        if date and not self.delta:
            try:
                self._base_value("dateLastModified", date)
            except ValidationError:
                self.rows_with_invalid_date += 1

    def _base_value(self, name: str, cell: str) -> JSON:
        element = self._columns[name].field
        assert element is not None
        return element.from_cell(cell)

    def _cell_step(self, column: Column) -> CellStep:
        element = column.field
        assert element is not None
        parse = element.fast_parser()
        if isinstance(element, TextListField) and element.expected:
            parse = self._collect_local_codes(column.header, element, parse)
        default = "" if element.always_present else element.fallback or None
        path, *more_paths = (stored_field.path for stored_field in element.storage_fields(column.name))
        return self._index[column.header], column.name, parse, path, tuple(more_paths), default

    def _collect_local_codes(self, header: str, element: TextListField, parse: FastParser) -> FastParser:
        checked: set[str] = set()

        def parse_and_collect(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            if cell not in checked and len(checked) < MAX_CACHED_CELLS:
                checked.add(cell)
                if local := set(split_list(cell)) - element.expected:
                    self.local_codes.setdefault(header, set()).update(local)
            return parse(cell)

        return parse_and_collect

    def problems_in(self, row: list[str]) -> Iterator[CellProblem]:
        """Yield the errors of a row, cell by cell; nothing for a valid row."""
        if [cell.strip(" \ufeff") for cell in row] == self._names:
            yield repeated_header_problem()
            return
        if not "".join(row).strip(RULE_CHARACTERS):
            yield dashes_problem()
            return
        is_message_likely = len(row) != len(self._names) or sum(map(bool, row)) <= MAX_CELLS_OF_MESSAGE
        if is_message_likely and (problem := message_problem(row)):
            yield problem
            return
        if len(row) != len(self._names):
            yield length_problem(self._names, row, self._elements_of_longer_row(row))
            return
        deletes = self.delta and self._deletes(row)
        has_no_state = self.delta and not any(row[self._index[name]] for name in STATUS_AND_DATE)
        if has_no_state:
            yield missing_state_problem()
        for name, cell in zip(self._names, row, strict=True):
            if (not deletes or name in BASE_COLUMNS) and not (has_no_state and name in STATUS_AND_DATE):
                yield from self._cell_problems(name, cell)
        if not deletes and self._has_conditional_fields:
            yield from self._conditional_problems(row)
        if not deletes and (limit := self._exceeded_limit(row)):
            message = f"the row has too much metadata: {limit}"
            yield CellProblem("too_much_metadata", message, "Leave out metadata columns that no consumer reads.")

    def _elements_of_longer_row(self, row: list[str]) -> list[OneRosterField | None] | None:
        """Return the fields of the columns if the row is valid without its surplus cells, which are empty."""
        count = len(self._names)
        if len(row) < count or any(row[count:]) or any(self.problems_in(row[:count])):
            return None
        columns = map(self._columns.get, self._names)
        return [column.field if column else None for column in columns]

    def _conditional_problems(self, row: list[str]) -> Iterator[CellProblem]:
        cells = {column.name: row[self._index[column.header]] for column in self._columns.values() if column.field}
        if name := self.resource_type.missing_required({name: cell for name, cell in cells.items() if cell}):
            other_name, values = cast(tuple[str, tuple[str, ...]], self.resource_type.fields[name].optional_if)
            message = f"a value is required unless {other_name} is {' or '.join(values)}"
            yield CellProblem("missing_value", message, "Fill the cell.", name, "")

    def _cell_problems(self, name: str, cell: str) -> Iterator[CellProblem]:
        column = self._columns.get(name)
        element = column.field if column else None
        printed_value = None if name in self.resource_type.ignored else cell
        if "\0" in cell or has_undecoded_bytes(cell):
            yield encoding_problem(cell, name, printed_value, is_utf8="\0" not in cell and self.is_utf8())
        elif self.placeholders.is_error(name, cell):
            yield placeholder_problem(name, cell)
        elif column is None or element is None or (name == "dateLastModified" and not self.delta):
            return
        elif not cell and self._is_required(column):
            yield missing_value_problem(name, "")
        elif cell:
            try:
                is_empty = element.from_cell(cell) in ([], "")
            except ValidationError as error:
                yield value_problem(element, name, cell, printed_value, error)
            else:
                if is_empty and element.required_in_csv:
                    yield missing_value_problem(name, cell)


def _set_default(name: str, default: str | None, body: dict[str, JSON], values: dict[str, Value]) -> None:
    """Set the value of an empty cell, see `CellStep`."""
    if default == "":
        body[name] = []
    elif default is not None:
        body[name], values[name] = body[default], values[default]
