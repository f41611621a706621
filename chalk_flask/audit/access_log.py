"""Access log: one JSON line for each authenticated request, in one file for each day (UTC).

A line names the tenant, the credential, the route and the number of rows. It contains no parameter value, no record id
and no personal data. `docs/reference/audit.md` lists the members.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from chalk_flask.background.batch_writer import BatchWriter
from chalk_flask.files import make_private_folder, open_private
from chalk_flask.times import format_precise_timestamp

__all__ = ["FILE_NAME", "MAX_PENDING_LINES", "AccessLog", "parse_line", "read_entries"]

log = logging.getLogger(__name__)

MAX_PENDING_LINES = 16384
"""Maximum number of lines in the queue. Further lines are dropped and counted."""
WRITE_INTERVAL_SECONDS = 0.5

_BATCH_SIZE = 1000
FILE_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl")
"""Name of the file of a day."""


class AccessLog:
    """Access log in a folder of files such as `2026-01-31.jsonl`, which are deleted after `days` days. Thread-safe.

    Several processes can write to the same folder. Nothing is written before `start`. If writing fails, the first
    failure is logged and the lines are lost.
    """

    is_enabled = False
    """True from `start` to `close`, unless `days` is 0."""

    def __init__(self, folder: Path, days: int, interval: float = WRITE_INTERVAL_SECONDS) -> None:
        self._folder = folder
        self._days = days
        self._interval = interval
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._pending: deque[tuple[str, bytes]] = deque()
        self._dropped = 0
        self._current_day = ""
        self._is_failing = False
        self._ends_incomplete = False
        self._writer = BatchWriter("access log", self._write_pending, delay=interval, flush_at_exit=True)

    def start(self) -> None:
        """Enable the access log."""
        self.is_enabled = self._days > 0

    def record(self, time: float, members: str) -> None:
        """Add a line: `time` (seconds since the epoch) and `members`, the members of a JSON object as text.

        Takes microseconds and never waits, because a background thread writes the lines. The queue contains bytes,
        which Python's garbage collector does not traverse.
        """
        if len(self._pending) >= MAX_PENDING_LINES:
            with self._lock:
                self._dropped += 1
            return
        timestamp = _format_time(time)
        self._pending.append((timestamp[:10], f'{{"time":"{timestamp}",{members}}}\n'.encode()))
        self._writer.wake()

    def close(self) -> None:
        """Write the pending lines and disable the access log. Closing again is harmless."""
        self.is_enabled = False
        self._writer.close()

    def _write_pending(self) -> float:
        """Write the pending lines. Lines that another thread is writing are in the file at the end, too."""
        with self._write_lock:
            self._write_batches()
        return self._interval  # the thread never ends, because starting a new one would slow down a request

    def _write_batches(self) -> None:
        while batch := [self._pending.popleft() for _ in range(min(len(self._pending), _BATCH_SIZE))]:
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                day, last = batch[-1]
                line = {"time": orjson.loads(last)["time"], "dropped": dropped}
                batch.append((day, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)))
            for day, group in groupby(batch, key=itemgetter(0)):
                self._write(day, b"".join(line for _, line in group))

    def _write(self, day: str, lines: bytes) -> None:
        try:
            if day != self._current_day:
                self._begin_day(day)
            self._append(self._folder / f"{day}.jsonl", lines)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning(
                    "requests are not recorded: cannot write the access log in %s: %s", self._folder, error.strerror
                )
            self._is_failing = True
            self._current_day = ""

    def _append(self, path: Path, lines: bytes) -> None:
        """Append the lines in one system call, so that lines of other processes never mix with them."""
        file = open_private(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            # A full disk may have cut off the last line. The next line must not continue it.
            lines = b"\n" + lines if self._ends_incomplete else lines
            self._ends_incomplete = os.write(file, lines) < len(lines)
        finally:
            os.close(file)

    def _begin_day(self, day: str) -> None:
        """Create the folder and delete the expired files."""
        make_private_folder(self._folder)
        newest_expired = (date.fromisoformat(day) - timedelta(days=self._days)).isoformat()
        for path in self._folder.iterdir():
            if (match := FILE_NAME.fullmatch(path.name)) and match[1] <= newest_expired:
                path.unlink(missing_ok=True)
        self._current_day = day


def read_entries(folder: Path, since: str = "") -> Iterator[dict[str, Any]]:
    """Yield the entries in a folder, oldest first. Incomplete lines are skipped.

    `since` is the earliest time, as `times.format_precise_timestamp` returns it. A missing folder has no entries. At
    most MAX_PENDING_LINES entries are in memory at once. Raises OSError.
    """
    if not folder.is_dir():
        return
    entries = _read_lines(folder, since)
    # Several processes write in batches, so a line can come thousands of lines after its place in the order of time.
    window = [(entry["time"], number, entry) for number, entry in enumerate(islice(entries, MAX_PENDING_LINES))]
    heapq.heapify(window)
    for number, entry in enumerate(entries, MAX_PENDING_LINES):
        yield heapq.heappushpop(window, (entry["time"], number, entry))[2]
    while window:
        yield heapq.heappop(window)[2]


def _read_lines(folder: Path, since: str) -> Iterator[dict[str, Any]]:
    names = sorted(path.name for path in folder.iterdir() if FILE_NAME.fullmatch(path.name))
    for name in names:
        if name[:10] >= since[:10]:
            with (folder / name).open("rb") as file:
                for line in file:
                    entry = parse_line(line)
                    if entry is not None and entry["time"] >= since:
                        yield entry


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, or None if the line is incomplete."""
    try:
        entry = orjson.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("time"), str) else None


def _format_time(time: float) -> str:
    """Return the time as `format_precise_timestamp` does; the part up to the second is cached."""
    second = int(time)
    return f"{_format_second(second)}.{int((time - second) * 1_000_000):06}Z"


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    return format_precise_timestamp(datetime.fromtimestamp(second, UTC))[:-8]
