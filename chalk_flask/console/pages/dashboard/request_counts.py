"""Numbers of API requests by application and day, from the access log.

Of a large file only evenly spaced blocks are read, and the numbers are estimates. Files of past days do not change, so
each is read once. The file of today is read at most once per minute.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import orjson

from chalk_flask.times import utc_now

__all__ = ["AppRequests", "RequestCounter", "RequestCounts"]

DAYS: Final = 7
MAX_AGE_SECONDS: Final = 60.0
"""Time for which the numbers of today's file are cached."""

MAX_BYTES: Final = 4 << 20
"""Maximum number of bytes that are read of a file, about 20,000 requests. A larger file is sampled."""
BLOCK_BYTES: Final = 64 << 10

ADMINISTRATOR: Final = "administrator"
"""Credential type of the reads of the admin console, which is no application."""

_TEXT: Final = rb'"((?:[^"\\]|\\.)*)"'
_LINE: Final = re.compile(rb'"tenant":%b,"event":"read","way":%b,"by":%b' % (_TEXT, _TEXT, _TEXT))


class _App(NamedTuple):
    """Credential of a tenant."""

    tenant: str
    credential_type: str
    credential_id: str


@dataclass(frozen=True, slots=True)
class AppRequests:
    """Requests with one credential, by day, oldest first. `credential_type` and `credential_id` are its principal's."""

    credential_type: str
    credential_id: str
    by_day: list[int]

    @property
    def total(self) -> int:
        """Number of requests on all days."""
        return sum(self.by_day)


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Requests of a tenant on the last days, most active application first.

    `is_estimate` is True if a file was too large to be read in full.
    """

    days: list[date]
    apps: list[AppRequests]
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class _FileCounts:
    """Numbers of one file: its size when it was read, and the time in seconds (monotonic)."""

    size: int
    read: float
    counts: Counter[_App]
    is_estimate: bool


class RequestCounter:
    """Counter of the requests in the folder of the access log, for all tenants. Thread-safe."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = utc_now) -> None:
        self._folder, self._now = folder, now
        self._files: dict[date, _FileCounts] = {}
        self._lock = threading.Lock()

    def count(self, tenant: str) -> RequestCounts:
        """Return the requests of a tenant on the last seven days, today included. Raises OSError."""
        today = self._now().date()
        days = [today - timedelta(days=age) for age in reversed(range(DAYS))]
        with self._lock:
            files = {day: self._read(day) for day in days}
            self._files = {day: file for day, file in files.items() if file is not None}
        apps = {
            app
            for file in files.values()
            if file
            for app in file.counts
            if app.tenant == tenant and app.credential_type != ADMINISTRATOR
        }
        found = [
            AppRequests(app.credential_type, app.credential_id, [_number(files[day], app) for day in days])
            for app in apps
        ]
        found.sort(key=lambda app: (-app.total, app.credential_type, app.credential_id))
        return RequestCounts(days, found, any(file is not None and file.is_estimate for file in files.values()))

    def _read(self, day: date) -> _FileCounts | None:
        path, cached = self._folder / f"{day.isoformat()}.jsonl", self._files.get(day)
        if cached is not None and time.monotonic() - cached.read < MAX_AGE_SECONDS:
            return cached
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if cached is not None and cached.size == size:
                    return cached
                return _count(file, size)
        except FileNotFoundError:
            return None


def _number(file: _FileCounts | None, app: _App) -> int:
    return 0 if file is None else file.counts[app]


def _count(file: BinaryIO, size: int) -> _FileCounts:
    found: Counter[tuple[bytes, bytes, bytes]] = Counter()
    read = 0
    for block in _blocks(file, size):
        read += len(block)
        found.update((match[1], match[2], match[3]) for match in _LINE.finditer(block))
    scale = size / read if read else 1.0
    counts: Counter[_App] = Counter()
    for names, count in found.items():
        with contextlib.suppress(ValueError):  # a damaged line
            counts[_App(*map(_decode, names))] = round(count * scale)
    return _FileCounts(size, time.monotonic(), counts, is_estimate=size > MAX_BYTES)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the content of a file, or evenly spaced blocks of a large one. Lines at the ends of a block are cut off."""
    if size <= MAX_BYTES:
        file.seek(0)
        yield file.read(size)
        return
    number = MAX_BYTES // BLOCK_BYTES
    for place in range(number):
        file.seek(size * place // number)
        yield file.read(BLOCK_BYTES)


def _decode(text: bytes) -> str:
    return str(orjson.loads(b'"%b"' % text))
