"""Rows put aside in key order, in memory while they are few and in a temporary file when they are many."""

from __future__ import annotations

import marshal
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TypeAlias, cast

from backends import Value

__all__ = ["ExternalSorter", "Row"]

Row: TypeAlias = tuple[str, bytes, dict[str, Value]]
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
        self._run: list[Row] = []
        self._runs: list[list[tuple[int, int]]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows aside."""
        self._run.extend(rows)
        if len(self._run) >= RUN_ROWS:
            self._end_run()

    def rows(self) -> Iterator[Row]:
        """All rows by key; beyond MERGED runs, run by run."""
        self._run.sort(key=_KEY)
        runs = [*map(self._read, self._runs), iter([self._run])]
        return (
            _merged(runs) if len(runs) <= MAX_MERGED_RUNS else (row for run in runs for piece in run for row in piece)
        )

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def _end_run(self) -> None:
        rows, self._run = sorted(self._run, key=_KEY), []
        places = []
        at = self._file.seek(0, 2)
        for start in range(0, len(rows), CHUNK_ROWS):
            # marshal reads a file in small steps, so each piece is packed and read as one
            packed = marshal.dumps(rows[start : start + CHUNK_ROWS])
            places.append((at, len(packed)))
            at += self._file.write(packed)
        self._runs.append(places)

    def _read(self, places: list[tuple[int, int]]) -> Iterator[list[Row]]:
        for at, length in places:
            self._file.seek(at)
            yield cast("list[Row]", marshal.loads(self._file.read(length)))


def _merged(runs: list[Iterator[list[Row]]]) -> Iterator[Row]:
    """The rows of sorted runs, each given piece by piece, in order.

    Step by step all that is due up to the least end of a piece is sorted at once: many times as fast as taking row
    after row from a heap.
    """
    ahead = [(piece, run) for run in runs if (piece := next(run, []))]
    while ahead:
        bound = min(piece[-1][0] for piece, _ in ahead)
        due: list[Row] = []
        left = []
        for piece, run in ahead:
            end = bisect_right(piece, bound, key=_KEY)
            due += piece[:end]
            if rest := piece[end:] or next(run, []):
                left.append((rest, run))
        ahead = left
        due.sort(key=_KEY)
        yield from due
