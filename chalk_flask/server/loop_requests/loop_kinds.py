"""Kinds of requests that the server loop runs, by the times of earlier requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["MAX_LOOP_SECONDS", "ClassifyRequest", "LoopKinds"]

MAX_LOOP_SECONDS = 0.005
"""Time above which a request takes too long for the server loop."""

_MAX_LOOP_SCORE = 8
"""Score up to which the loop runs a kind. It allows two requests in sequence that take too long.

Any request can take long by chance, because another process has the processor.
"""

_NEW_KIND_SCORE = _MAX_LOOP_SCORE + 2
_MAX_SCORE = _MAX_LOOP_SCORE + 10
_LONG_REQUEST_SCORE = 4
"""Number that a request that took too long adds to the score of its kind."""

_MAX_KINDS = 4096

ClassifyRequest: TypeAlias = Callable[[str, str, str], str]
"""Function that returns the kind of a request from its method, path and query, or "" if only a thread may run it.

Requests of one kind usually take about equally long.
"""


class LoopKinds:
    """Scores of kinds of requests. A request that takes too long adds 4 to that of its kind, and any other subtracts 1.

    So the loop runs a kind if less than a fifth of its requests take too long. All threads may call all methods. A lost
    update does no harm, so there is no lock.
    """

    def __init__(self) -> None:
        self._scores: dict[str, int] = {}

    def __contains__(self, kind: str) -> bool:
        """Return True if the server loop runs requests of a kind. Threads run new kinds first."""
        return self._scores.get(kind, _MAX_SCORE) <= _MAX_LOOP_SCORE

    def record(self, kind: str, seconds: float) -> None:
        """Record the time that a successful request took, in a thread or in the server loop."""
        score = self._scores.get(kind)
        if seconds > MAX_LOOP_SECONDS:
            self.record_long(kind)
        elif score:
            self._scores[kind] = score - 1
        elif score is None:
            self._set(kind, _NEW_KIND_SCORE - 1)

    def record_long(self, kind: str) -> None:
        """Record a request that took too long for the loop, or that had to wait."""
        self._set(kind, min(self._scores.get(kind, _NEW_KIND_SCORE) + _LONG_REQUEST_SCORE, _MAX_SCORE))

    def _set(self, kind: str, score: int) -> None:
        if kind not in self._scores and len(self._scores) >= _MAX_KINDS:
            self._scores.clear()  # threads run all kinds until their times are known again
        self._scores[kind] = score
