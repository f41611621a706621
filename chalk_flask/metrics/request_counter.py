"""Counter of requests and histograms of their durations."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from typing import Final, NamedTuple
from weakref import WeakSet

from chalk_flask.metrics.value_storage import MetricDefinition, SampleValueStore

__all__ = ["REQUEST_METRICS", "RequestCounter"]

REQUESTS: Final = MetricDefinition(
    "chalk_requests", "Requests by method, route and status.", ("method", "route", "status")
)
REQUEST_SECONDS: Final = MetricDefinition(
    "chalk_request_seconds",
    "Time from the start of a request to its response, without streams and long polls.",
    ("method", "route"),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
STREAM_SECONDS: Final = MetricDefinition(
    "chalk_stream_seconds",
    "Time from the start of a request to the end of its streamed response or long poll.",
    ("route",),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
REQUEST_METRICS: Final = (REQUESTS, REQUEST_SECONDS, STREAM_SECONDS)


class _Series(NamedTuple):
    """Values of the requests with one method, route and status. Requests with other statuses share the durations."""

    totals: MutableSequence[float]
    total_index: int
    durations: MutableSequence[float]
    bucket_indexes: Sequence[int]
    sum_index: int
    bounds: Sequence[float]


class RequestCounter:
    """Counter of requests by method, route and status, and of their durations. Thread-safe."""

    def __init__(self, values: SampleValueStore) -> None:
        self._values = values
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._series: dict[tuple[str, str, int, bool], _Series] = {}
        _counters.add(self)

    def record(self, method: str, route: str, status: int, seconds: float, is_stream: bool = False) -> None:
        """Count a request. `route` is a template: it contains no id of a record. Takes a microsecond."""
        series = self._series.get((method, route, status, is_stream)) or self._add(method, route, status, is_stream)
        totals, total_index, durations, bucket_indexes, sum_index, bounds = series
        bucket_index = bucket_indexes[bisect_left(bounds, seconds)]
        with self._lock:
            totals[total_index] += 1
            durations[bucket_index] += 1
            durations[sum_index] += seconds

    def _add(self, method: str, route: str, status: int, is_stream: bool) -> _Series:
        metric, labels = (STREAM_SECONDS, (route,)) if is_stream else (REQUEST_SECONDS, (method, route))
        with self._adding:  # it may write a file, and other requests must not wait for that
            totals, (total_index,) = self._values.allocate(REQUESTS, (method, route, str(status)))
            durations, (*bucket_indexes, sum_index) = self._values.allocate(metric, labels)
            series = _Series(totals, total_index, durations, tuple(bucket_indexes), sum_index, metric.bounds)
            self._series[method, route, status, is_stream] = series
        return series

    def restart(self) -> None:
        """Prepare for a process that was forked: another thread of the former one may have held the lock."""
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._series = {}
        self._values.reopen()


_counters: WeakSet[RequestCounter] = WeakSet()
"""Counters of this process."""


def _restart_counters() -> None:
    for counter in _counters:
        counter.restart()


os.register_at_fork(after_in_child=_restart_counters)
