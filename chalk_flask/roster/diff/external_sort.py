"""External merge sort of records by key. Up to a thousand stay in memory, more go to a temporary file."""

from __future__ import annotations

import marshal
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import TypeAlias, cast

from backends import Value

__all__ = ["ExternalSorter", "SortableRecord"]

SortableRecord: TypeAlias = tuple[str, bytes, dict[str, Value]]
"""Key, body without timestamp, and comparison keys without that of the timestamp."""

RUN_ROWS = 1_000
"""Rows that are sorted in memory at once."""

CHUNK_ROWS = 40
"""Rows of a sorted run that are read at once."""

MIN_HEAD_ROWS = 20
"""Rows of a run in memory below which its next chunk is read. A merge of random rows sorts so many of each at once."""

MAX_MERGED_RUNS = 300
"""Runs that are merged, 300,000 rows. Above that, merging takes longer than the order saves in reads."""

# Rows with equal keys need no defined order: a later check rejects the package.
_KEY = itemgetter(0)


class ExternalSorter:
    """Sorter of rows by key. Rows are added in any order and can be read repeatedly.

    A store filled in the order of the keys returns a large page several times as fast.
    """

    def __init__(self) -> None:
        self._buffer: list[SortableRecord] = []
        self._runs: list[list[tuple[int, int]]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def add(self, rows: Iterable[SortableRecord]) -> None:
        """Add rows."""
        self._buffer.extend(rows)
        if len(self._buffer) >= RUN_ROWS:
            self._write_run()

    def rows(self) -> Iterator[SortableRecord]:
        """Return all rows in the order of their keys; with more than MAX_MERGED_RUNS runs, only each run is sorted."""
        self._buffer.sort(key=_KEY)
        runs = [*map(self._read, self._runs), iter([self._buffer])]
        return _merge(runs) if len(runs) <= MAX_MERGED_RUNS else (row for run in runs for chunk in run for row in chunk)

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()

    def _write_run(self) -> None:
        rows, self._buffer = sorted(self._buffer, key=_KEY), []
        chunks = []
        offset = self._file.seek(0, 2)
        for start in range(0, len(rows), CHUNK_ROWS):
            # marshal.load() reads a file in small steps; reading each chunk as a whole is faster
            packed = marshal.dumps(rows[start : start + CHUNK_ROWS])
            chunks.append((offset, len(packed)))
            offset += self._file.write(packed)
        self._runs.append(chunks)

    def _read(self, chunks: list[tuple[int, int]]) -> Iterator[list[SortableRecord]]:
        for offset, length in chunks:
            self._file.seek(offset)
            yield cast("list[SortableRecord]", marshal.loads(self._file.read(length)))


class _Run:
    """Sorted run during a merge. `rows` are its next rows, which are in memory; they are empty after the last one."""

    def __init__(self, chunks: Iterator[list[SortableRecord]]) -> None:
        self._chunks = chunks
        self.rows = next(chunks, [])

    def take(self, bound: str) -> list[SortableRecord]:
        """Remove and return the rows with keys up to `bound`, and read more if few are left."""
        end = bisect_right(self.rows, bound, key=_KEY)
        taken, self.rows = self.rows[:end], self.rows[end:]
        if len(self.rows) < MIN_HEAD_ROWS:
            self.rows += next(self._chunks, [])
        return taken


def _merge(runs: list[Iterator[list[SortableRecord]]]) -> Iterator[SortableRecord]:
    """Yield the rows of sorted runs in order. Each run yields its rows in chunks.

    Each step sorts all rows up to the lowest last key in memory at once. This is many times as fast as a heap of rows.
    Only runs that begin before that key take part, so that rows that were added in order are not merged at all.
    """
    # The number of the run decides between equal keys, because runs cannot be compared.
    heads = [(run.rows[0][0], number, run) for number, run in enumerate(map(_Run, runs)) if run.rows]
    heapify(heads)
    while heads:
        bound = heads[0][2].rows[-1][0]
        involved = []
        while heads and heads[0][0] <= bound:
            involved.append(heappop(heads))
            bound = min(bound, involved[-1][2].rows[-1][0])
        rows: list[SortableRecord] = []
        for _, number, run in involved:
            rows += run.take(bound)
            if run.rows:
                heappush(heads, (run.rows[0][0], number, run))
        if len(involved) > 1:
            rows.sort(key=_KEY)
        yield from rows
