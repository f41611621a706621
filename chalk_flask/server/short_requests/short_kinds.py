"""Kinds of requests that are known to be short, by the times of earlier requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["LONG_REQUEST_SECONDS", "RequestKind", "ShortKinds"]

LONG_REQUEST_SECONDS = 0.005
"""Time above which a request is long."""

_MAX_SHORT_SCORE = 8
"""Score up to which a kind is short. Kinds that were short for a while may have a few long requests in sequence.

A short request can take long by chance, because another process has the processor.
"""

_NEW_KIND_SCORE = _MAX_SHORT_SCORE + 2
_MAX_SCORE = _MAX_SHORT_SCORE + 10
_LONG_REQUEST_SCORE = 4

_MAX_KINDS = 4096

RequestKind: TypeAlias = Callable[[str, str, str], str]
"""Function that returns the kind of a request from its method, path and query, or "" if only a thread may run it.

Requests of one kind usually take about equally long.
"""


class ShortKinds:
    """Scores of kinds of requests: each long request adds to that of its kind, and each short one subtracts 1.

    So a kind is short if less than a fifth of its requests are long. Threads call `record`, the server loop calls all
    methods. A lost update does no harm, so there is no lock.
    """

    def __init__(self) -> None:
        self._scores: dict[str, int] = {}

    def __contains__(self, kind: str) -> bool:
        """Return True if requests of a kind are known to be short."""
        return self._scores.get(kind, _MAX_SCORE) <= _MAX_SHORT_SCORE

    def record(self, kind: str, seconds: float) -> None:
        """Record the time that a successful request took, in a thread or in the server loop."""
        score = self._scores.get(kind)
        if seconds > LONG_REQUEST_SECONDS:
            self.record_long(kind)
        elif score:
            self._scores[kind] = score - 1
        elif score is None:
            self._set(kind, _NEW_KIND_SCORE - 1)

    def record_long(self, kind: str) -> None:
        """Record a request that took long, or that must wait."""
        self._set(kind, min(self._scores.get(kind, _NEW_KIND_SCORE) + _LONG_REQUEST_SCORE, _MAX_SCORE))

    def _set(self, kind: str, score: int) -> None:
        if len(self._scores) >= _MAX_KINDS:
            self._scores.clear()  # the threads run all kinds until these are known again
        self._scores[kind] = score
