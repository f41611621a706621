"""CSV rows to records: plain checks compiled from the Schemas, and an explanation for a row that fails them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, TypeAlias, cast

import orjson
from marshmallow import ValidationError

from backends import Value
from chalk_flask.oneroster import vocabularies as words
from chalk_flask.oneroster.fields.composites import TextListField, split_list
from chalk_flask.oneroster.fields.scalars import JSON, MAX_GUID_LENGTH, FastParser, GuidField, fold
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, Column, ResourceType

__all__ = [
    "CellError",
    "HeaderError",
    "InvalidRowError",
    "ParsedRow",
    "RowParser",
    "encode",
    "header_errors",
    "standard_names",
]

METADATA = "metadata."
STATE = ("status", "dateLastModified")
BASE = ("sourcedId", *STATE)
MAX_COLUMNS = 1000


class InvalidRowError(Exception):
    """The row fails a check; `RowParser.explain` says which."""


class ParsedRow(NamedTuple):
    """A row that passed: the body still without its stamp, its comparison keys, and the body as it would be stored."""

    key: str
    body: dict[str, JSON]
    values: dict[str, Value]
    encoded: bytes


def encode(body: dict[str, JSON]) -> bytes:
    """The stored form of an unstamped body. Raises InvalidRowError when a text is not UTF-8."""
    try:
        return orjson.dumps(body)
    except TypeError:
        raise InvalidRowError from None


class CellError(NamedTuple):
    """What is wrong with a cell."""

    code: str
    message: str
    remedy: str
    column: str | None = None
    value: str | None = None


class HeaderError(NamedTuple):
    """What is wrong (or, when not `fatal`, odd) about a header."""

    code: str
    message: str
    remedy: str
    column: str | None
    fatal: bool = True


Step: TypeAlias = tuple[int, str, FastParser, str, tuple[str, ...], str | None]
"""Where a cell stands, its element's name, how it is read, the stored field (and others) it fills, and what an empty
one means: nothing (None), an empty list (""), or the value of the element of that name."""


def header_errors(resource: ResourceType, header: Sequence[str]) -> Iterator[HeaderError]:
    """What is wrong with the header of a file. Every column of the standard must be there (CSV Tables 1.1)."""
    if len(header) > MAX_COLUMNS:
        yield HeaderError(
            "too_many_columns",
            f"{len(header)} columns; at most {MAX_COLUMNS} are read",
            "Leave out what is not OneRoster.",
            None,
        )
        return
    if any("\0" in name or _undecoded(name) for name in header):
        yield HeaderError("bad_text", "the header holds NULs or bytes that are not UTF-8", "Export as UTF-8.", None)
        return
    names = standard_names(resource, header)
    wanted = [column.header for column in resource.columns]
    kept = {name for name in names if name in wanted or _is_metadata(name)}
    for name in wanted:
        if name not in names:
            yield HeaderError(
                "missing_column",
                f"the column {name} is missing",
                "Add it: every column of the standard must be there, even when it is empty.",
                name,
            )
    for name in sorted(name for name in kept if names.count(name) > 1):
        yield HeaderError("repeated_column", "the column stands twice", "Leave one of them out.", name)
    for name in dict.fromkeys(names):
        if name not in kept:
            yield HeaderError("unknown_column", "not a column of the standard", "It was ignored.", name, False)


def _is_metadata(name: str) -> bool:
    return name.startswith(METADATA) and name != METADATA


def _undecoded(text: str) -> bool:
    """Whether the text holds bytes that are not UTF-8, which are read as lone surrogates."""
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def standard_names(resource: ResourceType, header: Sequence[str]) -> list[str]:
    """The header in today's names: OneRoster 1.0 called some columns otherwise."""
    former = dict(resource.former_columns)
    return [former.get(name.strip(), name.strip()) for name in header]


@dataclass
class RowParser:
    """Reads the rows of one file. `filled` counts rows with status or date, `odd` collects local codes by column.

    Rows of a `delta` file need both. One that deletes needs nothing else, and its draft has an empty body.
    """

    resource: ResourceType
    header: Sequence[str]
    map_roles: bool = False
    delta: bool = False
    filled: int = 0
    odd: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = standard_names(self.resource, self.header)
        self._columns = {c.header: c for c in self.resource.columns}
        self._at = {name: index for index, name in enumerate(self._names)}
        own = [c for c in self.resource.columns if c.name not in ("sourcedId", "status", "dateLastModified")]
        self._steps = [self._step(c) for c in own if c.field is not None]
        needed = [self._at[c.header] for c in self.resource.columns if self._needs(c)]
        self._needed_at = frozenset(needed)
        self._sometimes = any(element.unless for element in self.resource.fields.values())
        self._needed = cast(Callable[[Sequence[str]], Sequence[str]], itemgetter(*needed, needed[0]))
        self._metadata = [(i, n[len(METADATA) :]) for n, i in self._at.items() if _is_metadata(n)]
        self._base = itemgetter(self._at["sourcedId"], self._at["status"], self._at["dateLastModified"])

    def parse(self, row: list[str]) -> ParsedRow:
        """The record of a row. Raises InvalidRowError or ValidationError; `explain` tells more."""
        if self.delta and self._deletes(row):
            return self._deletion(row)
        if self.map_roles:
            row = self._with_known_role(row)
        if len(row) != len(self._names) or "" in self._needed(row) or "\0" in "".join(row):
            raise InvalidRowError
        key, status, date = self._base(row)
        if len(key) > MAX_GUID_LENGTH:
            raise InvalidRowError
        status = self._state(status, date) if status or date else words.ACTIVE
        body: dict[str, JSON] = {"sourcedId": key, "status": status, "dateLastModified": NO_TIMESTAMP}
        values: dict[str, Value] = {"status": status}
        self._fill(row, body, values)
        if self._sometimes and self.resource.missing_required(body):
            raise InvalidRowError
        if self._metadata:
            self._extend(row, body, values)
        return ParsedRow(key, body, values, encode(body))

    def _fill(self, row: list[str], body: dict[str, JSON], values: dict[str, Value]) -> None:
        for index, name, read, path, others, otherwise in self._steps:
            if cell := row[index]:
                body[name], keys = read(cell)
                if keys:
                    values[path] = keys[0]
                    if others:
                        values.update(zip(others, keys[1:], strict=True))
                    continue
                del body[name]
            if cell or otherwise is not None:
                if cell and index in self._needed_at:
                    raise InvalidRowError
                _absent(name, otherwise, body, values)

    def _extend(self, row: list[str], body: dict[str, JSON], values: dict[str, Value]) -> None:
        if found := {name: row[index] for index, name in self._metadata if row[index]}:
            body["metadata"] = found
            values.update((METADATA + name, (fold(cell),)) for name, cell in found.items())

    def _needs(self, column: Column) -> bool:
        """Whether every row must have a value in the column."""
        return (self.delta and column.name in STATE) or (column.field is not None and column.field.in_csv)

    def _deletes(self, row: list[str]) -> bool:
        at = self._at["status"]
        return at < len(row) and row[at] in words.DELETED

    def _deletion(self, row: list[str]) -> ParsedRow:
        key, _, date = self._base(row) if len(row) == len(self._names) else ("", "", "")
        if not (key and date) or len(key) > MAX_GUID_LENGTH or "\0" in key:
            raise InvalidRowError
        self._columns["dateLastModified"].field.from_cell(date)  # type: ignore[union-attr]  # always an element
        return ParsedRow(key, {}, {"status": words.TO_BE_DELETED}, b"")

    def key(self, row: list[str]) -> str:
        """The sourcedId cell of a row that may be broken; empty when it has none."""
        at = self._at["sourcedId"]
        return row[at] if at < len(row) else ""

    def _state(self, status: str, date: str) -> str:
        self.filled += 1
        if date:
            self._columns["dateLastModified"].field.from_cell(date)  # type: ignore[union-attr]  # always an element
        return str(self._columns["status"].field.from_cell(status)) if status else words.ACTIVE  # type: ignore[union-attr]  # as above

    def _step(self, column: Column) -> Step:
        element = column.field
        assert element is not None
        read = element.fast_parser()
        if isinstance(element, TextListField) and element.expected:
            read = self._noting(column.header, element, read)
        otherwise = "" if element.always else element.fallback or None
        first, *others = (f.path for f in element.storage_fields(column.name))
        return self._at[column.header], column.name, read, first, tuple(others), otherwise

    def _noting(self, header: str, element: TextListField, read: FastParser) -> FastParser:
        known: set[str] = set()

        def noting(cell: str) -> tuple[JSON, tuple[Value, ...]]:
            if cell not in known and len(known) < 10_000:
                known.add(cell)
                odd = set(split_list(cell)) - element.expected
                if odd:
                    self.odd.setdefault(header, set()).update(odd)
            return read(cell)

        return noting

    def _with_known_role(self, row: list[str]) -> list[str]:
        at = self._at["role"]
        if len(row) == len(self._names) and row[at] and row[at] not in words.ENROLLMENT_ROLES:
            row = list(row)
            row[at], row[self._at["primary"]] = "teacher", "false"
        return row

    def errors_in(self, row: list[str]) -> Iterator[CellError]:
        """Everything that is wrong with a row, cell by cell; nothing when it is in order."""
        if len(row) != len(self._names):
            yield CellError(
                "bad_row",
                f"the row has {len(row)} cells, the header {len(self._names)}",
                "Quote cells that hold commas, quotes or line breaks.",
            )
            return
        deletes = self.delta and self._deletes(row)
        for name, cell in zip(self._names, row, strict=True):
            if not deletes or name in BASE:
                yield from self._explain_cell(name, cell)
        if not deletes and self._sometimes:
            yield from self._explain_lack(row)

    def _explain_lack(self, row: list[str]) -> Iterator[CellError]:
        cells = {c.name: row[self._at[c.header]] for c in self.resource.columns}
        if name := self.resource.missing_required({name: cell for name, cell in cells.items() if cell}):
            unless, value = cast(tuple[str, str], self.resource.fields[name].unless)
            message = f"a value is required unless {unless} is {value}"
            yield CellError("missing_value", message, "Fill the cell.", name, "")

    def _explain_cell(self, name: str, cell: str) -> Iterator[CellError]:
        column = self._columns.get(name)
        shown = None if name in self.resource.ignored else cell
        if "\0" in cell or _undecoded(cell):
            yield CellError(
                "bad_text", "the cell holds a NUL or bytes that are not UTF-8", "Export the file as UTF-8.", name, shown
            )
        elif column is not None and column.field is not None:
            element = column.field
            if not cell and self._needs(column):
                yield CellError("missing_value", "a value is required", "Fill the cell.", name, "")
            elif cell:
                try:
                    empty = element.from_cell(cell) in ([], "")
                except ValidationError as error:
                    yield CellError("bad_value", "; ".join(map(str, error.messages)), _remedy(element), name, shown)
                else:
                    if empty and element.in_csv:
                        yield CellError("missing_value", "a value is required", "Fill the cell.", name, cell)


def _absent(name: str, otherwise: str | None, body: dict[str, JSON], values: dict[str, Value]) -> None:
    """What stands for an element without a value: an empty list, or the value of another."""
    if otherwise == "":
        body[name] = []
    elif otherwise is not None:
        body[name], values[name] = body[otherwise], values[otherwise]


def _remedy(element: object) -> str:
    return "Shorten the identifier." if isinstance(element, GuidField) else "Correct the cell."
