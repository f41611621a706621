"""Reads of a thread that must not wait, such as the one that serves all connections of a server.

In a `with` block of `immediate_reads`, a backend with `has_immediate_reads` opens no file, and begins no work of
unknown duration. It waits for a lock for at most a millisecond. It raises WaitRequired instead. The caller then repeats
the read in another thread.
"""

from __future__ import annotations

import threading

__all__ = ["WaitRequired", "acquire_lock", "immediate_reads", "limit_seconds", "may_wait", "refuse_to_wait"]


_MAX_LOCK_SECONDS = 0.001
"""Maximum time for which an immediate read waits for a lock. Usually another thread holds it for microseconds."""


class WaitRequired(BaseException):
    """Signal that an immediate read would have to wait. It is no error: handlers of errors must not catch it."""


class _Limit(threading.local):
    seconds: float | None = None
    """Maximum time of a query of this thread; None if the thread may wait."""


_limit = _Limit()


class immediate_reads:  # noqa: N801 - named like contextlib.suppress
    """Context manager in whose block no read of this thread waits. Blocks cannot be nested.

    Reads raise WaitRequired if they would wait, and QueryTimeoutError if a query takes longer than `query_seconds`. It
    is a class, because a generator takes longer, and a server uses it for each request.
    """

    __slots__ = ("_query_seconds",)

    def __init__(self, query_seconds: float) -> None:
        self._query_seconds = query_seconds

    def __enter__(self) -> None:
        _limit.seconds = self._query_seconds

    def __exit__(self, *_: object) -> None:
        _limit.seconds = None


def may_wait() -> bool:
    """Return True if this thread is outside of `immediate_reads`."""
    return _limit.seconds is None


def refuse_to_wait() -> None:
    """Raise WaitRequired within `immediate_reads`. A backend calls this before it waits or begins long work."""
    if _limit.seconds is not None:
        raise WaitRequired


def limit_seconds(query_seconds: float | None) -> float | None:
    """Return the time limit of a query in this thread, which is at most `query_seconds`."""
    limit = _limit.seconds
    if limit is None:
        return query_seconds
    return limit if query_seconds is None else min(limit, query_seconds)


def acquire_lock(lock: threading.Lock) -> None:
    """Acquire a lock. Within `immediate_reads`, raises WaitRequired if it is not free within a millisecond."""
    if not lock.acquire(timeout=-1 if _limit.seconds is None else _MAX_LOCK_SECONDS):
        raise WaitRequired
