"""External merge sort of records by key. Up to a thousand stay in memory, more go to a temporary file."""

from __future__ import annotations

import marshal
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TypeAlias, cast

from backends import Value

__all__ = ["ExternalSorter", "SortableRecord"]

SortableRecord: TypeAlias = tuple[str, bytes, dict[str, Value]]
"""Key, body without timestamp, and comparison keys without that of the timestamp."""

RUN_ROWS = 1_000
"""Rows that are sorted in memory at once."""

CHUNK_ROWS = 100
"""Rows of a sorted run that are read at once."""

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


def _merge(runs: list[Iterator[list[SortableRecord]]]) -> Iterator[SortableRecord]:
    """Yield the rows of sorted runs in order. Each run yields its rows in chunks.

    Each step sorts all rows up to the lowest last key of a chunk at once. This is many times as fast as a heap.
    """
    heads = [(chunk, run) for run in runs if (chunk := next(run, []))]
    while heads:
        bound = min(chunk[-1][0] for chunk, _ in heads)
        rows: list[SortableRecord] = []
        next_heads = []
        for chunk, run in heads:
            end = bisect_right(chunk, bound, key=_KEY)
            rows += chunk[:end]
            if rest := chunk[end:] or next(run, []):
                next_heads.append((rest, run))
        heads = next_heads
        rows.sort(key=_KEY)
        yield from rows
