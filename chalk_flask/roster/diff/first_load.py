"""First load that writes the rows of very large files while it reads them.

Other imports sort the rows in a temporary file, and write them when the package is known to be valid. `ExternalSorter`
does not merge so many rows in the order of their keys, so nothing is gained by sorting them. If the package is invalid,
the transaction rolls back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from backends import Closeable
from chalk_flask.oneroster.csv.row_parser import ParsedRecord
from chalk_flask.roster.changes import RosterWriter, clock
from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.diff.external_sort import MAX_MERGED_RUNS, RUN_ROWS
from chalk_flask.roster.package.archive import Package

__all__ = ["FirstLoad", "has_large_file"]

MIN_ROWS = MAX_MERGED_RUNS * RUN_ROWS
"""Number of rows from which a file is written while it is read."""

MIN_EARLIER_RECORDS = clock.LARGE_LOAD_RECORDS
"""Number of earlier records above which such a file is written at once.

The timestamp is then the start of the write in any case (interpretation I-06).
"""


class _NotCommittedError(Exception):
    """Signal that ends a transaction without a commit."""


class FirstLoad(Closeable):
    """Write transaction of a first load. It begins with the first very large file. Not thread-safe.

    `begin` returns a context manager that yields the writer, and commits at its end unless there is an exception.
    `close` rolls back what was not committed.
    """

    def __init__(self, begin: Callable[[], contextlib.AbstractContextManager[RosterWriter]]) -> None:
        self._begin = begin
        self._writer: RosterWriter | None = None
        self._transaction = contextlib.ExitStack()

    @property
    def has_begun(self) -> bool:
        """True if the transaction is open."""
        return self._writer is not None

    def accepts(self, package: Package, name: str, earlier_records: int) -> bool:
        """Return True if `put` should write a file. The files before it have `earlier_records` records."""
        return earlier_records > MIN_EARLIER_RECORDS and _is_large(package, name)

    def put(self, changes: ChangeSet, rows: Iterator[ParsedRecord], is_valid: Callable[[], bool]) -> None:
        """Write the rows of a file. Once `is_valid` returns False, read the others without writing them.

        Raises what `begin` raises, and StorageError.
        """
        if self._writer is None:
            self._writer = self._transaction.enter_context(self._begin())
        name = changes.resource_type.name
        # The first load assigns no number to each record, so no keys are needed.
        self._writer.put(name, lambda timestamp: changes.created_records(rows, timestamp, is_valid), tuple)

    @contextlib.contextmanager
    def writing(self) -> Iterator[RosterWriter]:
        """Yield the writer, and commit at the end of the block. Call it after `put`."""
        writer, self._writer = self._writer, None
        assert writer is not None
        with self._transaction.pop_all():
            yield writer

    def close(self) -> None:
        """Roll back, unless `writing` has committed."""
        with contextlib.suppress(_NotCommittedError), self._transaction.pop_all():
            raise _NotCommittedError


def has_large_file(package: Package) -> bool:
    """Return True if a bulk file of the package is so large that a first load writes it while it is read."""
    return any(_is_large(package, name) for name in package.modes)


def _is_large(package: Package, name: str) -> bool:
    file = f"{name}.csv"
    if package.modes.get(name) != "bulk" or file not in package.names():
        return False
    head = package.read_head(file)
    return package.size(file) * head.count(b"\n") > MIN_ROWS * len(head)
