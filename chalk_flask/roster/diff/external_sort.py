"""Rows put aside in key order, in memory while they are few and in a temporary file when they are many."""

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
"""A key, a body without its stamp, and its comparison keys without that of the stamp."""

RUN_ROWS = 1_000
"""Rows that are held and sorted at once."""

CHUNK_ROWS = 100
"""Rows that are read back at once from each sorted run."""
MAX_MERGED_RUNS = 300
"""So many runs are merged, that is 300,000 rows. More would take longer than the order is worth."""


# The key alone: an id that came twice refuses the package later, and bodies with equal keys cannot be told apart here.
_KEY = itemgetter(0)


class ExternalSorter:
    """Takes rows in any order and gives them back by key, as often as asked.

    A store that is filled in the order in which it is read answers a long page several times as fast.
    """

    def __init__(self) -> None:
        self._buffer: list[SortableRecord] = []
        self._runs: list[list[tuple[int, int]]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def add(self, rows: Iterable[SortableRecord]) -> None:
        """Put rows aside."""
        self._buffer.extend(rows)
        if len(self._buffer) >= RUN_ROWS:
            self._write_run()

    def rows(self) -> Iterator[SortableRecord]:
        """All rows by key; beyond MERGED runs, run by run."""
        self._buffer.sort(key=_KEY)
        runs = [*map(self._read, self._runs), iter([self._buffer])]
        return _merge(runs) if len(runs) <= MAX_MERGED_RUNS else (row for run in runs for piece in run for row in piece)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def _write_run(self) -> None:
        rows, self._buffer = sorted(self._buffer, key=_KEY), []
        places = []
        at = self._file.seek(0, 2)
        for start in range(0, len(rows), CHUNK_ROWS):
            # marshal reads a file in small steps, so each piece is packed and read as one
            packed = marshal.dumps(rows[start : start + CHUNK_ROWS])
            places.append((at, len(packed)))
            at += self._file.write(packed)
        self._runs.append(places)

    def _read(self, places: list[tuple[int, int]]) -> Iterator[list[SortableRecord]]:
        for at, length in places:
            self._file.seek(at)
            yield cast("list[SortableRecord]", marshal.loads(self._file.read(length)))


def _merge(runs: list[Iterator[list[SortableRecord]]]) -> Iterator[SortableRecord]:
    """The rows of sorted runs, each given piece by piece, in order.

    Step by step all that is due up to the least end of a piece is sorted at once: many times as fast as taking row
    after row from a heap.
    """
    ahead = [(piece, run) for run in runs if (piece := next(run, []))]
    while ahead:
        bound = min(piece[-1][0] for piece, _ in ahead)
        due: list[SortableRecord] = []
        left = []
        for piece, run in ahead:
            end = bisect_right(piece, bound, key=_KEY)
            due += piece[:end]
            if rest := piece[end:] or next(run, []):
                left.append((rest, run))
        ahead = left
        due.sort(key=_KEY)
        yield from due
