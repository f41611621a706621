"""Quarantine: rows of a package that an import sets aside, so that it can apply the others.

docs/conformance, I-34, states which rows are quarantined.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from chalk_flask.files import atomic_write
from chalk_flask.id_set import IdSet
from chalk_flask.oneroster.csv.diagnosis import FAILED_EXPORT
from chalk_flask.oneroster.fields.scalars import clean_id
from chalk_flask.roster.package.problems import ImportProblem

__all__ = ["MAX_LISTED_PROBLEMS", "STRUCTURAL_CODES", "Quarantine", "RowsExcludedError", "to_csv", "write_csv"]

MAX_LISTED_PROBLEMS = 1000
"""Problems of quarantined rows that a report lists. The CSV file of an import has all of them."""

STRUCTURAL_CODES = frozenset({"bad_text", FAILED_EXPORT})
"""Codes of errors in a row that concern its whole file, such as its encoding. They reject the package."""

CSV_HEADER = ("file", "row", "sourcedId", "column", "value", "code", "message", "remedy")
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
COPY_CHARACTERS = 1 << 20


class RowsExcludedError(Exception):
    """Signal that rows which were compared already must be quarantined. The caller compares the package again."""


class Quarantine:
    """Quarantined rows of one import, which may read the package several times.

    The reader adds a row as soon as it finds an error. If the row was yielded before, its id is excluded instead, and
    the next reading quarantines the rows with this id. All rows are written to a temporary file, so that memory stays
    flat. `close` deletes that file.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Number of quarantined rows by file."""
        self.listed: list[ImportProblem] = []
        """The first problems of quarantined rows."""
        self.uncertain: Counter[str] = Counter()
        """Number of quarantined rows by file whose record is unknown, because their id is missing or uncertain."""
        self._ids: dict[str, IdSet] = {}
        self._excluded: dict[str, dict[str, ImportProblem]] = {}
        self._has_new_exclusions = False
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115 - closed by `close`
        self._rows = csv.writer(self._file)

    def start_file(self, name: str, *, exact: bool) -> None:
        """Begin a data file; `exact` as for `IdSet`."""
        self._ids[name] = IdSet(exact=exact)

    def end_file(self, name: str) -> None:
        """End a data file. From now on `contains` knows its quarantined rows."""
        self._ids[name].sort()

    def add(self, name: str, key: str, problems: Sequence[ImportProblem]) -> None:
        """Quarantine a row of a file for these problems. `key` is its id, or empty if it has none."""
        self.counts[name] += 1
        for form in {key, clean_id(key)} - {""}:  # a stored record may have either form
            self._ids[name].add(form)
        self._rows.writerows(_cells(problem, key) for problem in problems)
        room = max(MAX_LISTED_PROBLEMS - len(self.listed), 0)
        self.listed += [problem.truncated() for problem in problems[:room]]

    def add_uncertain(self, name: str, problems: Sequence[ImportProblem]) -> None:
        """Quarantine a row that may be that of any record. From now on `contains` returns True for all ids."""
        self.uncertain[name] += 1
        self.add(name, "", problems)

    def exclude(self, name: str, key: str, reason: ImportProblem) -> bool:
        """Quarantine all rows with this id when the package is read again. Return False if they were excluded before.

        Call it for rows that were yielded already.
        """
        excluded = self._excluded.setdefault(name, {})
        if key in excluded:
            return False
        excluded[key] = reason
        self._has_new_exclusions = True
        return True

    def excluded(self, name: str) -> dict[str, ImportProblem]:
        """Return the reasons of a file's excluded rows by id."""
        return self._excluded.setdefault(name, {})

    def contains(self, name: str, key: str) -> bool:
        """Return True if a quarantined row has this id, or may have it. Call it after the end of the file."""
        return name in self._ids and (bool(self.uncertain[name]) or key in self._ids[name])

    def exact_ids(self, name: str) -> set[str]:
        """Return the ids of the quarantined rows of a file that others refer to."""
        ids = self._ids.get(name)
        return (ids.exact if ids else None) or set()

    def has_id(self, name: str, key: str) -> bool:
        """Return True if a row with this id, in a file that others refer to, is quarantined or excluded."""
        return key in self.exact_ids(name) or key in self._excluded.get(name, ())

    def has_rows(self, name: str) -> bool:
        """Return True if a row of this file was quarantined."""
        return bool(self.counts[name])

    def raise_if_excluded(self) -> None:
        """Raise RowsExcludedError if rows were excluded since the package was read from its beginning."""
        if self._has_new_exclusions:
            raise RowsExcludedError

    def start_again(self) -> None:
        """Forget the rows, but not the excluded ids, because the package is read again."""
        self.counts.clear()
        self.uncertain.clear()
        self.listed.clear()
        self._ids.clear()
        self._has_new_exclusions = False
        self._file.seek(0)
        self._file.truncate()

    def write_csv(self, path: Path) -> None:
        """Write all quarantined rows to a file that only its owner can read. Raises OSError."""
        self._file.seek(0)
        with atomic_write(path, sync_parent=False) as file:
            file.write(_to_csv([CSV_HEADER]))
            while part := self._file.read(COPY_CHARACTERS):
                file.write(part.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()


def write_csv(path: Path, problems: Iterable[ImportProblem]) -> None:
    """Write listed problems of quarantined rows to a file that only its owner can read. Raises OSError."""
    with atomic_write(path, sync_parent=False) as file:
        file.write(_to_csv([CSV_HEADER, *(_cells(problem, "") for problem in problems)]))


def _cells(problem: ImportProblem, key: str) -> list[str]:
    cells = (problem.file, problem.row, key, problem.column, problem.value, problem.code, problem.message, problem.hint)
    return _plain(cells)


def _plain(cells: Iterable[str | int | None]) -> list[str]:
    """Return the cells as text, with an apostrophe before those that a spreadsheet may interpret as formulas."""
    texts = ("" if cell is None else str(cell) for cell in cells)
    return [f"'{text}" if text.startswith(FORMULA_PREFIXES) else text for text in texts]


def to_csv(rows: Iterable[Iterable[str | int | None]]) -> bytes:
    """Return the rows as a CSV file in which a spreadsheet finds no formula."""
    return _to_csv(map(_plain, rows))


def _to_csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
