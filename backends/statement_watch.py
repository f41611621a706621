"""Report of the statements of a database that take long."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["StatementWatch"]


class StatementWatch:
    """Limit above which a statement of a store is slow, and the function that reports it. Without `set`, none is slow.

    A statement is reported as its text, without its values.
    """

    __slots__ = ("on_slow", "seconds")

    def __init__(self) -> None:
        self.seconds = math.inf
        self.on_slow: Callable[[str, float], None] = _ignore

    def set(self, seconds: float, on_slow: Callable[[str, float], None]) -> None:
        """Call `on_slow` with the text and the duration of each statement that takes longer than `seconds`."""
        self.seconds, self.on_slow = seconds, on_slow


def _ignore(_text: str, _seconds: float) -> None:
    """Do nothing."""
