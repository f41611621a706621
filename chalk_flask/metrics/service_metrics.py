"""Counters and histograms of a process, and their text form.

Processes that serve one store can share their numbers: if the environment variable PROMETHEUS_MULTIPROC_DIR names a
folder when they start, each writes its numbers there, and every process shows the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

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


class _RequestCounters(NamedTuple):
    """Functions that count a request with one method, route and status."""

    increment: Callable[[], None]
    observe: Callable[[float], None]


class ServiceMetrics:
    """Metrics of the requests, streams and log messages of a process. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
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
        self._log_messages = Counter(
            "chalk_log_messages", "Messages in the log, by level.", ("level",), registry=self._registry
        )
        self._counters: dict[tuple[str, str, int, bool], _RequestCounters] = {}

    def record(self, method: str, route: str, status: int, seconds: float, is_stream: bool = False) -> None:
        """Count a request. `route` is a template: it contains no id of a record. Takes two microseconds."""
        key = (method, route, status, is_stream)
        increment, observe = self._counters.get(key) or self._make_counters(*key)
        increment()
        observe(seconds)

    def streams(self, kind: str) -> Gauge:
        """Return the number of responses of a kind that are in progress, to be changed at their start and end."""
        return self._streams.labels(kind)

    def count_log_message(self, level: str) -> None:
        """Count a message in the log."""
        self._log_messages.labels(level).inc()

    def render(self, *collectors: Collector) -> bytes:
        """Return the metrics and those of other collectors as text of the type CONTENT_TYPE."""
        registry = CollectorRegistry()
        if is_shared():
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it in part
        else:
            ProcessCollector(registry=registry)
            registry.register(self._registry)
        for collector in collectors:
            registry.register(collector)
        return generate_latest(registry)

    def _make_counters(self, method: str, route: str, status: int, is_stream: bool) -> _RequestCounters:
        seconds = self._stream_seconds.labels(route) if is_stream else self._seconds.labels(method, route)
        counters = _RequestCounters(self._requests.labels(method, route, str(status)).inc, seconds.observe)
        self._counters[method, route, status, is_stream] = counters
        return counters


def is_shared() -> bool:
    """Return True if processes share their numbers in a folder."""
    return bool(getattr(ValueClass, "_multiprocess", False))


def known_method(method: str) -> str:
    """Return the method of a request, or `other`."""
    return method if method in METHODS else "other"
