"""Reading a package's files row by row: every row checked, every reference followed, every problem told."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from marshmallow import ValidationError

from backends import KEY, Snapshot
from chalk_flask.oneroster.csv.row_parser import InvalidRowError, ParsedRow, RowParser, header_errors, standard_names
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.id_set import IdSet
from chalk_flask.roster.package.problems import ImportProblems
from chalk_flask.roster.package.references import ReferenceChecker

__all__ = ["PackageReader", "cycles"]

REFERRED_TO = {reference.target for resource in FILES.values() for reference in resource.references}

STEP = 1000
"""Rows between two words about the progress."""


@dataclass
class PackageReader:
    """One pass over a package, against a snapshot of what is stored."""

    package: Package
    before: Snapshot
    problems: ImportProblems
    map_roles: bool = False
    progress: Callable[[str, int], None] | None = None
    ids: dict[str, IdSet] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    live: dict[str, dict[str, bool]] = field(init=False)
    """For each delta file its ids, as far as it was read, and whether their records are active once it is applied."""
    _broken: set[str] = field(default_factory=set)
    """Files that could not be read to their end: nothing is said of references to them, since not all is known."""
    _number: int = 0
    """The last row that was read; the header is 1, and blank lines count."""

    def __post_init__(self) -> None:
        self.live = {name: {} for name, mode in self.package.modes.items() if mode == "delta"}
        self.references = ReferenceChecker(self.package, self.before, self.problems, self.ids, self.live, self._broken)

    def drafts(self, name: str) -> Iterator[ParsedRow]:
        """The good rows of a data file as drafts; what is wrong goes to `problems`."""
        resource = FILES[name]
        self.ids[name] = IdSet(exact=name in REFERRED_TO)
        self.rows[name] = 0
        self._number = 0
        try:
            with self.package.text(f"{name}.csv", lambda: self._number) as text:
                lines = csv.reader(text, strict=True)
                if reader := self._reader(resource, next(lines, None)):
                    drafts = self._read(resource, reader, lines)
                    yield from _followed(drafts, self.live[name]) if reader.delta else drafts
                    self._warn(resource, reader)
        except csv.Error as error:
            self._broken.add(name)
            self._not_csv(name, str(error))
        except UnreadableFileError as error:
            self._broken.add(name)
            remedy = "Export the package again."
            self.problems.error("unreadable", f"the file cannot be read: {error}", remedy, file=f"{name}.csv")
        self._check_repeated(resource)
        self.references.settle(name)

    def forget(self) -> None:
        """Let go of the ids once all is compared: writing has a use for the memory."""
        self.ids.clear()
        self.references.forget()
        self.live.clear()

    def _reader(self, resource: ResourceType, header: list[str] | None) -> RowParser | None:
        file = f"{resource.name}.csv"
        if header is None:
            self._broken.add(resource.name)
            remedy = "Write the header row, or declare the file as absent in manifest.csv."
            self.problems.error("empty_file", "the file is empty", remedy, file=file)
            return None
        fatal = False
        for fault in header_errors(resource, header):
            if fault.fatal:
                fatal = True
                self.problems.error(fault.code, fault.message, fault.remedy, file=file, row=1, column=fault.column)
            else:
                self.problems.warn(fault.code, fault.message, fault.remedy, file=file, column=fault.column)
        if fatal:
            self._broken.add(resource.name)
        map_roles = self.map_roles and resource.name == "enrollments"
        return None if fatal else RowParser(resource, header, map_roles, resource.name in self.live)

    def _read(self, resource: ResourceType, reader: RowParser, lines: Iterator[list[str]]) -> Iterator[ParsedRow]:
        ids, references = self.ids[resource.name], self.references.checks(resource)
        new, read, progress = ids.add, reader.parse, self.progress
        self._number = 1
        blank = 0
        for number, row in enumerate(lines, 2):
            self._number = number
            if progress and number % STEP == 0:
                progress(resource.name, number)
            if not row:
                blank += 1
                continue
            try:
                draft = read(row)
            except (InvalidRowError, ValidationError):
                self._explain(resource, reader, number, row)
                if key := reader.key(row):
                    new(key)
                continue
            key, _, values, encoded = draft
            if not new(key):
                self._repeated(resource, number, key)
            for path, known, missed in references if encoded else ():  # what only deletes refers to nothing
                value = values.get(path, key if path == KEY else None)
                if value is not None and value not in known:
                    missed(value, number, values["status"] == ACTIVE)
            yield draft
        self.rows[resource.name] = self._number - 1 - blank

    def _check_repeated(self, resource: ResourceType) -> None:
        if hashes := self.ids[resource.name].repeated():
            for number, key in IdSet.among(self.located(resource), hashes):
                self._repeated(resource, number, key)

    def located(self, resource: ResourceType) -> Iterator[tuple[int, str]]:
        """The row and id of each record of a file that was read before."""
        self._number = 0
        with (
            contextlib.suppress(csv.Error, UnreadableFileError),  # as was told when it was read
            self.package.text(f"{resource.name}.csv", lambda: self._number) as text,
        ):
            lines = csv.reader(text, strict=True)
            at = standard_names(resource, next(lines)).index("sourcedId")
            for number, row in enumerate(lines, 2):
                self._number = number
                if len(row) > at:
                    yield number, row[at]

    def _repeated(self, resource: ResourceType, row: int, key: str) -> None:
        self.problems.error(
            "repeated_id",
            "the sourcedId stands in an earlier row too",
            "Give each record an id of its own, or leave one row out.",
            file=f"{resource.name}.csv",
            row=row,
            column="sourcedId",
            value=key,
        )

    def _explain(self, resource: ResourceType, reader: RowParser, number: int, row: list[str]) -> None:
        found = False
        for fault in reader.errors_in(row):
            found = True
            file = f"{resource.name}.csv"
            self.problems.error(
                fault.code, fault.message, fault.remedy, file=file, row=number, column=fault.column, value=fault.value
            )
        if not found:
            raise AssertionError(f"row {number} of {resource.name} fails a check that explains nothing")

    def _not_csv(self, name: str, message: str) -> None:
        large = "field larger" in message
        self.problems.error(
            "too_large_cell" if large else "bad_csv",
            "a cell is longer than what is read" if large else f"the row is not CSV: {message}",
            "Raise import_max_field_kb if it is genuine." if large else "Quote cells that hold quotes or line breaks.",
            file=f"{name}.csv",
            row=self._number + 1,
        )

    def _warn(self, resource: ResourceType, reader: RowParser) -> None:
        file = f"{resource.name}.csv"
        if reader.filled and not reader.delta:
            self.problems.warn(
                "filled_state",
                f"{reader.filled} rows of a bulk file fill status or dateLastModified",
                "The status was used, the date ignored; the standard leaves both blank.",
                file=file,
            )
        for column, odd in reader.odd.items():
            message = f"{len(odd)} codes are not of the standard's list"
            self.problems.warn("local_code", message, "They were kept.", file=file, column=column)


def _followed(drafts: Iterator[ParsedRow], live: dict[str, bool]) -> Iterator[ParsedRow]:
    """The drafts of a delta file, while `live` is told of each."""
    for draft in drafts:
        live[draft.key] = draft.values["status"] == ACTIVE
        yield draft


def cycles(parents: Mapping[str, str]) -> Sequence[str]:
    """The ids that are their own ancestors, given each id's parent."""
    found: list[str] = []
    state: dict[str, int] = {}
    for start in parents:
        path, at = [], start
        while at in parents and at not in state:
            state[at] = 1
            path.append(at)
            at = parents[at]
        if state.get(at) == 1:
            found += path[path.index(at) :]
        state.update(dict.fromkeys(path, 2))
    return found
