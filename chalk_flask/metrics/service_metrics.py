"""Counters and histograms of a process, and their text form.

Processes that serve one store can share their numbers: if the environment variable PROMETHEUS_MULTIPROC_DIR names a
folder when they start, each writes its numbers there, and every process shows the sums.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from functools import lru_cache
from typing import Final, NamedTuple

import prometheus_client
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

from chalk_flask.background.batch_writer import BatchWriter

__all__ = ["CONTENT_TYPE", "NO_ROUTE", "ServiceMetrics", "known_method"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are named. A client can send any text as a method, so others are counted together."""
NO_ROUTE: Final = "(no route)"
"""Route of a request whose path leads nowhere."""

REQUEST_BUCKETS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STREAM_BUCKETS_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


# Without this, each series has a second line with the time at which it began.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types it in part


WRITE_INTERVAL_SECONDS: Final = 0.5
MAX_PENDING_REQUESTS: Final = 20_000
"""Number of requests at which a request adds the pending ones itself, because the background thread is late."""


class _Request(NamedTuple):
    """Labels of a request, whose duration is that of a stream if `is_stream` is True."""

    method: str
    route: str
    status: int
    is_stream: bool


class _Durations:
    """Durations of requests with the same labels: their number, their sum, and numbers by bucket."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets: Counter[int] = Counter()


class ServiceMetrics:
    """Metrics of the requests, streams and log messages of a process. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "chalk_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "chalk_request_seconds",
            "Time from the start of a request to its response, without streams and long polls.",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._stream_seconds = Histogram(
            "chalk_stream_seconds",
            "Time from the start of a request to the end of its streamed response or long poll.",
            ("route",),
            buckets=STREAM_BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "chalk_streams",
            "Streamed responses, long polls and exports in progress.",
            ("kind",),
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._log_messages = prometheus_client.Counter(
            "chalk_log_messages", "Messages in the log, by level.", ("level",), registry=self._registry
        )
        self._pending: deque[tuple[_Request, float]] = deque()
        self._lock = threading.Lock()
        self._writer = BatchWriter("metrics", self._write_pending, delay=WRITE_INTERVAL_SECONDS)

    def record(self, method: str, route: str, status: int, seconds: float, is_stream: bool = False) -> None:
        """Count a request. `route` is a template: it contains no id of a record.

        Takes less than a microsecond: a background thread adds the requests of half a second to the metrics.
        """
        self._pending.append((_request(method, route, status, is_stream), seconds))
        self._writer.wake()
        if len(self._pending) >= MAX_PENDING_REQUESTS:
            self._add_pending()

    def streams(self, kind: str) -> Gauge:
        """Return the number of responses of a kind that are in progress, to be changed at their start and end."""
        return self._streams.labels(kind)

    def count_log_message(self, level: str) -> None:
        """Count a message in the log."""
        self._log_messages.labels(level).inc()

    def render(self, *collectors: Collector) -> bytes:
        """Return the metrics and those of other collectors as text of the type CONTENT_TYPE."""
        self._add_pending()
        registry = CollectorRegistry()
        if is_shared():
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it in part
        else:
            ProcessCollector(registry=registry)
            registry.register(self._registry)
        for collector in collectors:
            registry.register(collector)
        return generate_latest(registry)

    def _write_pending(self) -> float:
        self._add_pending()
        return WRITE_INTERVAL_SECONDS  # the thread never ends, because starting a new one would slow down a request

    def _add_pending(self) -> None:
        """Add the pending requests to the metrics."""
        with self._lock:
            found: defaultdict[_Request, _Durations] = defaultdict(_Durations)
            for _ in range(len(self._pending)):
                request, seconds = self._pending.popleft()
                durations = found[request]
                durations.count += 1
                durations.total += seconds
                bounds = STREAM_BUCKETS_SECONDS if request.is_stream else REQUEST_BUCKETS_SECONDS
                durations.buckets[bisect_left(bounds, seconds)] += 1
            for request, durations in found.items():
                self._add(request, durations)

    def _add(self, request: _Request, durations: _Durations) -> None:
        self._requests.labels(request.method, request.route, str(request.status)).inc(durations.count)
        if request.is_stream:
            histogram = self._stream_seconds.labels(request.route)
        else:
            histogram = self._seconds.labels(request.method, request.route)
        # The public method adds one duration only, and takes several microseconds for it.
        histogram._sum.inc(durations.total)
        for number, count in durations.buckets.items():
            histogram._buckets[number].inc(count)


@lru_cache(maxsize=8192)
def _request(method: str, route: str, status: int, is_stream: bool) -> _Request:
    """Return the labels of a request, which many requests share."""
    return _Request(method, route, status, is_stream)


def is_shared() -> bool:
    """Return True if processes share their numbers in a folder."""
    return bool(getattr(ValueClass, "_multiprocess", False))


def known_method(method: str) -> str:
    """Return the method of a request, or `other`."""
    return method if method in METHODS else "other"
