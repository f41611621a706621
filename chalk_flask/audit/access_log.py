"""Who read what, as lines of JSON in a file a day, written off the path of the request.

A line says who asked, in which tenant, for which route, and how much was answered; never a parameter's value, an id or
anything of a record.
"""

from __future__ import annotations

import atexit
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

from chalk_flask.times import format_precise_timestamp

__all__ = ["MOST", "AccessLog", "read_entries"]

log = logging.getLogger(__name__)

MOST = 16384
"""Lines that wait to be written at the most; what comes beyond is dropped and counted."""
GATHER = 0.5
"""Seconds for which lines are gathered before they are written in one go."""

_BATCH = 1000
_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl")


class AccessLog:
    """Files `2026-01-31.jsonl` (UTC) in a folder, kept for some days; several processes may write them at once.

    Nothing is written before `begin`. A folder that cannot be written is logged once, and the lines are lost.
    """

    on = False
    """Whether lines are taken down."""

    def __init__(self, folder: Path, days: int, gather: float = GATHER) -> None:
        self._folder = folder
        self._days = days
        self._gather = gather
        self._lock = threading.Lock()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._dropped = 0
        self._day = ""
        self._failing = False
        self._torn = False
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None

    def start(self) -> None:
        """Take lines down from now on, unless they are kept for no day."""
        self.on = self._days > 0

    def record(self, moment: float, members: str) -> None:
        """Take down a line: members of a JSON object, which the moment, a POSIX timestamp, is put before.

        Takes a microsecond and never waits: another thread writes. What waits for it is bytes, since objects would
        be looked through again and again by Python's collector of garbage.
        """
        if len(self._queue) >= MOST:
            with self._lock:
                self._dropped += 1
            return
        time = _time(moment)
        self._queue.append((time[:10], f'{{"time":"{time}",{members}}}\n'.encode()))
        if self._writer is None:
            self._start()

    def close(self) -> None:
        """Write what is left, and take nothing down any more. Closing twice is harmless."""
        self.on = False
        self._closing.set()
        if self._writer is not None:
            self._writer.join(5)
        self._write_all()
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._lock:
            if self._writer is None and not self._closing.is_set():
                self._writer = threading.Thread(target=self._write_on, name="record of reads", daemon=True)
                self._writer.start()
                atexit.register(self.close)

    def _write_on(self) -> None:
        while not self._closing.wait(self._gather):
            self._write_all()

    def _write_all(self) -> None:
        while batch := [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]:
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                day, last = batch[-1]
                line = {"time": orjson.loads(last)["time"], "dropped": dropped}
                batch.append((day, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)))
            for day, group in groupby(batch, key=itemgetter(0)):
                self._write(day, b"".join(line for _, line in group))

    def _write(self, day: str, text: bytes) -> None:
        try:
            if day != self._day:
                self._prepare(day)
            self._append(self._folder / f"{day}.jsonl", text)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("reads are not recorded: %s cannot be written: %s", self._folder, error.strerror)
            self._failing = True
            self._day = ""

    def _append(self, path: Path, text: bytes) -> None:
        """Add the lines in one call, which the system never mixes with another process's."""
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # A disk that was full cut the last line short: what follows must not be part of it.
            text = b"\n" + text if self._torn else text
            self._torn = os.write(file, text) < len(text)
        finally:
            os.close(file)

    def _prepare(self, day: str) -> None:
        """Make the folder, and remove the files whose days are over."""
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = (date.fromisoformat(day) - timedelta(days=self._days)).isoformat()
        for path in self._folder.iterdir():
            if (match := _NAME.fullmatch(path.name)) and match[1] <= oldest:
                path.unlink(missing_ok=True)
        self._day = day


def read_entries(folder: Path, since: str = "") -> Iterator[dict[str, Any]]:
    """The lines in a folder since a moment as `written` gives it, the oldest first; those that are torn are left out.

    Holds some thousands of them at a time. A folder that is not there has none. Raises OSError.
    """
    if not folder.is_dir():
        return
    found = _found(folder, since)
    # Several processes write, each a batch at a time: a line may stand some thousands of places too late.
    waiting = [(line["time"], place, line) for place, line in enumerate(islice(found, MOST))]
    heapq.heapify(waiting)
    for place, line in enumerate(found, MOST):
        yield heapq.heappushpop(waiting, (line["time"], place, line))[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _found(folder: Path, since: str) -> Iterator[dict[str, Any]]:
    names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    for name in names:
        if name[:10] >= since[:10]:
            with (folder / name).open("rb") as file:
                for text in file:
                    line = _parsed(text)
                    if line is not None and line["time"] >= since:
                        yield line


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("time"), str) else None


def _time(moment: float) -> str:
    """The moment as `written` gives it; what requests of one second share is worked out once."""
    second = int(moment)
    return f"{_second(second)}.{int((moment - second) * 1_000_000):06}Z"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return format_precise_timestamp(datetime.fromtimestamp(second, UTC))[:-8]
