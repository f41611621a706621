"""Pauses of long queries beside others."""

from __future__ import annotations

import time

from backends.sqlite.query_pacer import QueryPacer

MANY = 2000
"""Number of long queries beside which a pause would take longer than any test."""
LONG_SECONDS = 600.0


def seconds_of_pause(pacer: QueryPacer, query: str, max_seconds: float) -> float:
    """Return the duration of a pause after 20 milliseconds of work."""
    pacer.pause(query, 0)
    time.sleep(0.02)
    start = time.monotonic()
    pacer.pause(query, max_seconds)
    return time.monotonic() - start


def test_query_alone_never_pauses() -> None:
    pacer = QueryPacer()
    assert seconds_of_pause(pacer, "only", LONG_SECONDS) < 10


def test_query_beside_others_pauses_within_its_limit() -> None:
    pacer = QueryPacer()
    for number in range(MANY):
        pacer.pause(number, 0)
    assert 0.2 <= seconds_of_pause(pacer, "one more", 0.2) < 10


def test_ended_queries_are_not_waited_for() -> None:
    pacer = QueryPacer()
    for number in range(MANY):
        pacer.pause(number, 0)
        pacer.forget(number)
    assert seconds_of_pause(pacer, "only", LONG_SECONDS) < 10
