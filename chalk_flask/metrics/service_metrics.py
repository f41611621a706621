"""Counters and histograms of a process, and their text form.

Processes that serve one store can share their numbers in the folder of the environment variable
PROMETHEUS_MULTIPROC_DIR. Each process writes its numbers there, and shows the sums.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from chalk_flask.files import make_private_folder
from chalk_flask.metrics.process_group import ProcessGroupCollector
from chalk_flask.metrics.request_counter import REQUEST_METRICS, RequestCounter
from chalk_flask.metrics.shared_folder import FOLDER_VARIABLE, process_identifier, use_process_number
from chalk_flask.metrics.value_storage import LocalSampleValues, SampleValueStore, SharedSampleValues, reserve_file
from chalk_flask.settings import SettingsError

__all__ = ["CONTENT_TYPE", "NO_ROUTE", "ServiceMetrics", "known_method", "prepare_folder", "share_metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are named. A client can send any text as a method, so others are counted together."""
NO_ROUTE: Final = "(no route)"
"""Route of a request whose path matches no rule."""

LIBRARY_FILES: Final = ("counter", "gauge_livesum")
"""Kinds of metrics that the library counts itself: messages in the log, and streams."""

# Without this, each series has a second line with the time at which it began.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types it in part


class ServiceMetrics:
    """Metrics of the requests, streams and log messages of a process. Thread-safe.

    Raises SettingsError if processes share their numbers in a folder that cannot be written.
    """

    def __init__(self) -> None:
        self.supervisor_pid: int | None = None
        """Id of the process that has started this one and others, whose CPU time and memory are shown together."""
        self._registry = CollectorRegistry()
        self.requests = RequestCounter(_open_values(self._registry))
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
            if self.supervisor_pid is not None:
                registry.register(ProcessGroupCollector(self.supervisor_pid))
        else:
            ProcessCollector(registry=registry)
            registry.register(self._registry)
        for collector in collectors:
            registry.register(collector)
        return generate_latest(registry)


def _open_values(registry: CollectorRegistry) -> SampleValueStore:
    if is_shared():
        return SharedSampleValues(prepare_folder(Path(os.environ[FOLDER_VARIABLE])))
    local = LocalSampleValues(*REQUEST_METRICS)
    registry.register(local)
    return local


def prepare_folder(folder: Path) -> Path:
    """Create the files of the shared folder to which the library will write, and return the folder.

    Raises SettingsError if it cannot be written.
    """
    try:
        _reserve_files(folder, process_identifier())
    except OSError as error:
        raise SettingsError(f"the folder {folder} in {FOLDER_VARIABLE} cannot be written: {error.strerror}") from error
    return folder


def share_metrics(folder: Path, number: int) -> None:
    """Write the metrics of this process to files in the folder that carry its process number.

    Call this before any metric exists. Raises OSError if the folder cannot be written, for example on a full disk.
    """
    _reserve_files(folder, number)
    use_process_number(number)


def _reserve_files(folder: Path, identifier: int) -> None:
    make_private_folder(folder)
    for kind in LIBRARY_FILES:
        reserve_file(folder / f"{kind}_{identifier}.db")


def _prepare_after_fork() -> None:
    """Create the files of a forked process before it counts."""
    if is_shared():
        with suppress(SettingsError):
            prepare_folder(Path(os.environ[FOLDER_VARIABLE]))


os.register_at_fork(after_in_child=_prepare_after_fork)


def is_shared() -> bool:
    """Return True if processes share their numbers in a folder."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def known_method(method: str) -> str:
    """Return the method of a request, or `other`."""
    return method if method in METHODS else "other"
