"""Audit events and access log of a store, newest first, for the pages of the console."""

from __future__ import annotations

import heapq
import os
from bisect import insort
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from backends import CONTROL, Backend
from chalk_flask.audit.access_log import FILE_NAME, parse_line
from chalk_flask.audit.events import read_latest_events

__all__ = ["READ", "read_latest", "read_latest_entries"]

READ = "read"
"""Event of an entry of the access log."""

BLOCK_BYTES = 64 * 1024
LATE_BYTES = 512 * 1024
"""Maximum distance in bytes between a line and its place in the order of time. Processes write lines in batches."""
WINDOW_SIZE = 2000
"""Entries that are sorted at once."""


def read_latest(
    store: Backend,
    access_log: Path,
    tenants: Iterable[str],
    *,
    since: str = "",
    until: str = "",
    event: str = "",
    with_reads: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yield the audit events of these tenants and of CONTROL, and the entries of the access log, newest first.

    `since` and `until` limit the time as in `read_latest_events`. `event` selects the entries of one name. Without
    `with_reads` the access log is not read. The caller selects a tenant, and ends the iteration after enough entries.
    Memory use is constant. Raises StorageError and OSError.
    """
    sources = []
    if with_reads and event in ("", READ):
        sources.append(read_latest_entries(access_log, since, until))
    if event != READ:
        sources += [read_latest_events(store, name, since, until, event) for name in sorted({CONTROL, *tenants})]
    return heapq.merge(*sources, key=lambda entry: str(entry["time"]), reverse=True)


def read_latest_entries(folder: Path, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
    """Yield the entries of the access log in a folder, newest first. A missing folder has none. Raises OSError."""
    if not folder.is_dir():
        return
    window: list[tuple[str, int, dict[str, Any]]] = []
    for number, entry in enumerate(_read_backwards(folder, since, until)):
        insort(window, (entry["time"], -number, entry))
        if len(window) > WINDOW_SIZE:
            yield window.pop()[2]
    while window:
        yield window.pop()[2]


def _read_backwards(folder: Path, since: str, until: str) -> Iterator[dict[str, Any]]:
    """Yield the entries within the limits from the end of the newest file on, almost in the order of time."""
    names = sorted((path.name for path in folder.iterdir() if FILE_NAME.fullmatch(path.name)), reverse=True)
    for name in names:
        if name[:10] < since[:10]:
            return
        if until and name[:10] > until[:10]:
            continue
        earlier = 0
        for entry in _read_file_backwards(folder / name, until):
            earlier = earlier + 1 if entry["time"] < since else 0
            if earlier > WINDOW_SIZE:
                return
            if not earlier and (not until or entry["time"] < until):
                yield entry


def _read_file_backwards(path: Path, until: str) -> Iterator[dict[str, Any]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # it expired meanwhile
        return
    with file:
        end, rest = _end_of(file, until), b""
        while end:
            begin = max(end - BLOCK_BYTES, 0)
            file.seek(begin)
            # The first line of the block may be incomplete. It continues in the block before.
            rest, *lines = (file.read(end - begin) + rest).split(b"\n")
            yield from filter(None, map(parse_line, reversed(lines)))
            end = begin
        yield from filter(None, [parse_line(rest)])


def _end_of(file: BinaryIO, until: str) -> int:
    """Return a position after all lines before `until`, not far behind the last of them."""
    low, high = 0, file.seek(0, os.SEEK_END)
    size = high
    while until and high - low > BLOCK_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        entry = parse_line(file.readline())
        if entry is None or entry["time"] < until:
            low = middle
        else:
            high = middle
    return min(high + LATE_BYTES, size)
