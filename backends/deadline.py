"""Time limit of the queries of a snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from backends.errors import QueryTimeoutError

__all__ = ["QueryDeadline"]

_CHECK_INTERVAL_ITEMS = 100

_Item = TypeVar("_Item")


class QueryDeadline:
    """Time limit of each step of a snapshot: of a call, or of the next item of an iteration.

    `seconds` None means no limit. Not thread-safe, as a snapshot is used by one thread at a time.
    """

    __slots__ = ("_end", "_seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._end = math.inf

    @property
    def is_unlimited(self) -> bool:
        """True if steps may take any time."""
        return self._seconds is None

    @property
    def lock_timeout(self) -> float:
        """Remaining seconds of the step, or -1 without a limit, as `threading.Lock.acquire` takes them."""
        return -1 if self._seconds is None else max(self._end - time.monotonic(), 0)

    def start_step(self) -> None:
        """Start the time of the next step."""
        if self._seconds is not None:
            self._end = time.monotonic() + self._seconds

    def has_passed(self) -> bool:
        """Return True if the step takes longer than its limit."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Raise QueryTimeoutError if the step takes longer than its limit."""
        if self.has_passed():
            raise QueryTimeoutError(f"the query took longer than its time limit of {self._seconds:g} seconds")

    def limit(self, items: Iterable[_Item]) -> Iterable[_Item]:
        """Return the items; their iteration checks the time before every 100th item."""
        return items if self._seconds is None else self._checked(items)

    def _checked(self, items: Iterable[_Item]) -> Iterator[_Item]:
        for number, item in enumerate(items):
            if number % _CHECK_INTERVAL_ITEMS == 0:
                self.check()
            yield item
