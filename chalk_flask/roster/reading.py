"""Reading a package's files row by row: every row checked, every reference followed, every problem told."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from marshmallow import ValidationError

from backends import KEY, Compare, Snapshot, Where
from chalk_flask.oneroster.elements import fold
from chalk_flask.oneroster.resource import Resource
from chalk_flask.oneroster.resources import FILES
from chalk_flask.oneroster.rows import BadRow, Draft, RowReader, header_faults
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.identifiers import Identifiers
from chalk_flask.roster.package import Package, Unreadable
from chalk_flask.roster.problems import Problems

__all__ = ["ACTIVE_ONLY", "Reading"]

ACTIVE_ONLY: Where = Compare("status", "=", fold(ACTIVE))

REFERRED_TO = {reference.target for resource in FILES.values() for reference in resource.references}

STEP = 1000
"""Rows between two words about the progress."""


@dataclass
class Reading:
    """One pass over a package, against a snapshot of what is stored."""

    package: Package
    before: Snapshot
    problems: Problems
    map_roles: bool = False
    progress: Callable[[str, int], None] | None = None
    ids: dict[str, Identifiers] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)
    """Files without a usable header: nothing is said of references to them, since nothing is known."""
    _awaited: dict[tuple[str, str], dict[str, tuple[int, str]]] = field(default_factory=dict)
    _stored: dict[str, frozenset[str]] = field(default_factory=dict)

    def drafts(self, name: str) -> Iterator[Draft]:
        """The good rows of a data file as drafts; what is wrong goes to `problems`."""
        resource = FILES[name]
        self.ids[name] = Identifiers(exact=name in REFERRED_TO)
        self.rows[name] = 0
        try:
            with self.package.text(f"{name}.csv") as text:
                lines = csv.reader(text, strict=True)
                if reader := self._reader(resource, next(lines, None)):
                    yield from self._read(resource, reader, lines)
                    self._warn(resource, reader)
        except csv.Error as error:
            self._not_csv(name, str(error))
        except Unreadable as error:
            remedy = "Export the package again."
            self.problems.error("unreadable", f"the file cannot be read ({error})", remedy, file=f"{name}.csv")
        self._check_repeated(resource)
        self._check_awaited(name)

    def _reader(self, resource: Resource, header: list[str] | None) -> RowReader | None:
        file = f"{resource.name}.csv"
        if header is None:
            self._broken.add(resource.name)
            remedy = "Write the header row, or declare the file as absent in manifest.csv."
            self.problems.error("empty_file", "the file is empty", remedy, file=file)
            return None
        fatal = False
        for fault in header_faults(resource, header):
            if fault.fatal:
                fatal = True
                self.problems.error(fault.code, fault.message, fault.remedy, file=file, row=1, column=fault.column)
            else:
                self.problems.warn(fault.code, fault.message, fault.remedy, file=file, column=fault.column)
        if fatal:
            self._broken.add(resource.name)
        map_roles = self.map_roles and resource.name == "enrollments"
        return None if fatal else RowReader(resource, header, map_roles)

    def _read(self, resource: Resource, reader: RowReader, lines: Iterator[list[str]]) -> Iterator[Draft]:
        ids, references = self.ids[resource.name], self._references(resource)
        number = 1
        for number, row in enumerate(lines, 2):
            if number % STEP == 0 and self.progress:
                self.progress(resource.name, number)
            if not row:
                continue
            self.rows[resource.name] += 1
            try:
                draft = reader.read(row)
            except (BadRow, ValidationError):
                self._explain(resource, reader, number, row)
                ids.add(reader.key(row))
                continue
            if not ids.add(draft.key):
                self._repeated(resource, number, draft.key)
            values = draft.values
            for path, known, missed in references:
                value = values.get(path, draft.key if path == KEY else None)
                if value is not None and value not in known:
                    missed(value, number)
            yield draft

    def _references(self, resource: Resource) -> list[tuple[str, Set[object], Callable[[object, int], None]]]:
        """For each reference: the stored field, the ids known so far, and what to do about a value not among them."""
        columns = {column.name: column.header for column in resource.columns}
        found = [
            (reference.field, *self._known(resource, columns[reference.name], reference.target))
            for reference in resource.references
            if reference.name in columns
        ]
        if resource.key_of:
            found.append((KEY, *self._known(resource, "sourcedId", resource.key_of)))
        return found

    def _known(self, resource: Resource, header: str, target: str) -> tuple[Set[object], Callable[[object, int], None]]:
        later: dict[str, tuple[int, str]] | None = None
        known: Set[object] = self.stored(target)
        if self.package.modes.get(target) == "bulk":
            known = (self.ids[target].exact if target in self.ids else None) or set()
            if target == resource.name or target not in self.ids:
                known = self.ids[resource.name].exact or known if target == resource.name else known
                later = self._awaited.setdefault((resource.name, header), {})

        def missed(value: object, row: int) -> None:
            for key in value if isinstance(value, tuple) else (value,):
                if key not in known and target not in self._broken:
                    if later is None:
                        self._unknown(resource.name, row, header, target, str(key))
                    else:
                        later.setdefault(str(key), (row, target))

        return known, missed

    def stored(self, name: str) -> frozenset[str]:
        """The ids of the active records that are stored."""
        if name not in self._stored:
            self._stored[name] = frozenset(self.before.keys(name, ACTIVE_ONLY))
        return self._stored[name]

    def _unknown(self, name: str, row: int, header: str, target: str, key: str) -> None:
        where = f"{target}.csv" if self.package.modes.get(target) == "bulk" else f"the active {target} that are stored"
        self.problems.error(
            "dangling_reference",
            f"refers to a record that is not in {where}",
            f"Add the record to {target}.csv or correct the reference.",
            file=f"{name}.csv",
            row=row,
            column=header,
            value=key,
        )

    def _check_awaited(self, name: str) -> None:
        """Decide about references to this file that were met before it was read through."""
        for (source, header), waiting in self._awaited.items():
            for key, (row, target) in waiting.items():
                if target == name not in self._broken and key not in self.ids[name]:
                    self._unknown(source, row, header, target, key)

    def _check_repeated(self, resource: Resource) -> None:
        if hashes := self.ids[resource.name].repeated():
            with self.package.text(f"{resource.name}.csv") as text:
                lines = csv.reader(text, strict=True)
                at = next(i for i, n in enumerate(next(lines)) if n.strip() in ("sourcedId", "userSourcedId"))
                keys = ((number, row[at]) for number, row in enumerate(lines, 2) if len(row) > at)
                for number, key in Identifiers.among(keys, hashes):
                    self._repeated(resource, number, key)

    def _repeated(self, resource: Resource, row: int, key: str) -> None:
        self.problems.error(
            "repeated_id",
            "the sourcedId stands in an earlier row too",
            "Give each record an id of its own, or leave one row out.",
            file=f"{resource.name}.csv",
            row=row,
            column="sourcedId",
            value=key,
        )

    def _explain(self, resource: Resource, reader: RowReader, number: int, row: list[str]) -> None:
        found = False
        for fault in reader.explain(row):
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
            "a cell is longer than what is read" if large else f"the file is not CSV: {message}",
            "Raise import_max_field_kb if it is genuine." if large else "Quote cells that hold quotes or line breaks.",
            file=f"{name}.csv",
            row=self.rows[name] + 2,
        )

    def _warn(self, resource: Resource, reader: RowReader) -> None:
        file = f"{resource.name}.csv"
        if reader.filled:
            self.problems.warn(
                "filled_state",
                f"{reader.filled} rows of a bulk file fill status or dateLastModified",
                "The status was used, the date ignored; the standard leaves both blank.",
                file=file,
            )
        for column, odd in reader.odd.items():
            message = f"{len(odd)} codes are not of the standard's list"
            self.problems.warn("local_code", message, "They were kept.", file=file, column=column)


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
