"""Values of the samples of a metric, in the memory of a process or in files that processes share.

Both kinds are sequences of floats, so counting a request costs the same. The methods of prometheus-client find, lock
and write each value on its own, which takes five times as long.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from contextlib import closing
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from chalk_flask.files import open_private
from chalk_flask.metrics.shared_folder import process_identifier

__all__ = [
    "LocalSampleValues",
    "MetricDefinition",
    "SampleValueStore",
    "SampleValues",
    "SharedSampleValues",
    "reserve_file",
]

log = logging.getLogger(__name__)

FILE_BYTES: Final = 1 << 20
"""Size of a new file. The library doubles it when it is full."""
MAX_VALUE_BYTES: Final = 32
"""Maximum size of a value in a file, without its key."""


class MetricDefinition(NamedTuple):
    """Name, description and labels of a counter, or of a histogram with the upper bounds of its buckets."""

    name: str
    description: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    def samples(self) -> list[tuple[str, dict[str, str]]]:
        """Return name and additional labels of each sample: the total of a counter, or the buckets and the sum."""
        if not self.bounds:
            return [(f"{self.name}_total", {})]
        buckets = [(f"{self.name}_bucket", {"le": bound}) for bound in self.bound_texts()]
        return [*buckets, (f"{self.name}_sum", {})]

    def bound_texts(self) -> list[str]:
        """Return the bounds and infinity as texts of the format of Prometheus."""
        return [floatToGoString(bound) for bound in (*self.bounds, inf)]  # type: ignore[no-untyped-call]  # untyped


class SampleValues(NamedTuple):
    """Values of a metric with certain labels: `values[indexes[i]]` is that of the i-th sample of its definition."""

    values: MutableSequence[float]
    indexes: Sequence[int]


class SampleValueStore(Protocol):
    """Values of all metrics of a process. Not thread-safe."""

    def allocate(self, metric: MetricDefinition, labels: tuple[str, ...]) -> SampleValues:
        """Return the values of a metric with these labels. They begin with 0."""

    def reopen(self) -> None:
        """Prepare for a process that was forked. Its values must be allocated again."""


class LocalSampleValues(Collector):
    """Values in the memory of this process, which collects them itself."""

    def __init__(self, *metrics: MetricDefinition) -> None:
        self._values: dict[MetricDefinition, dict[tuple[str, ...], list[float]]] = {metric: {} for metric in metrics}

    def allocate(self, metric: MetricDefinition, labels: tuple[str, ...]) -> SampleValues:
        """Return the values of a metric with these labels. They begin with 0."""
        values = self._values[metric].setdefault(labels, [0.0] * len(metric.samples()))
        return SampleValues(values, range(len(values)))

    def reopen(self) -> None:
        """Do nothing: a process that was forked continues the values."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their present values."""
        for metric, found in self._values.items():
            yield _histogram(metric, found.copy()) if metric.bounds else _counter(metric, found.copy())


def _counter(metric: MetricDefinition, found: Mapping[tuple[str, ...], list[float]]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.description, labels=metric.labels)
    for labels, (total,) in found.items():
        family.add_metric(labels, total)
    return family


def _histogram(metric: MetricDefinition, found: Mapping[tuple[str, ...], list[float]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.description, labels=metric.labels)
    for labels, values in found.items():
        *buckets, total = values.copy()
        family.add_metric(labels, list(zip(metric.bound_texts(), accumulate(buckets), strict=True)), total)
    return family


class SharedSampleValues:
    """Values in files of this process. MultiProcessCollector of prometheus-client adds up those of all processes.

    The library creates the files. They are mapped here a second time, because it offers no fast way to add to them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _ValueFile] = {}
        self._has_failed = False

    def allocate(self, metric: MetricDefinition, labels: tuple[str, ...]) -> SampleValues:
        """Return the values of a metric with these labels. They continue those of a former process with the same id.

        If the files cannot be written, this is logged once, and the values are lost.
        """
        prefix = "histogram" if metric.bounds else "counter"
        try:
            if prefix not in self._files:
                # The library reads the kind of a metric from the beginning of the file name.
                self._files[prefix] = _ValueFile(self._folder / f"{prefix}_requests_{process_identifier()}.db")
            return self._files[prefix].allocate(metric, labels)
        except OSError as error:
            if not self._has_failed:
                log.error("requests are not counted: cannot write metrics in %s: %s", self._folder, error.strerror)
            self._has_failed = True
            return SampleValues([0.0] * len(metric.samples()), range(len(metric.samples())))

    def reopen(self) -> None:
        """Use files of this process, which was forked."""
        self._files = {}


class _ValueFile:
    """File of prometheus-client with values, mapped into memory as a sequence of floats."""

    def __init__(self, path: Path) -> None:
        reserve_file(path)
        self._path = path
        self._positions = self._read_positions()
        self._values: Any = None
        self._size = 0

    def allocate(self, metric: MetricDefinition, labels: tuple[str, ...]) -> SampleValues:
        """Return values of the file, and create missing ones. Raises OSError."""
        keys = [
            mmap_key(metric.name, name, [*metric.labels, *further], [*labels, *further.values()], metric.description)
            for name, further in metric.samples()
        ]
        if not self._size or not all(key in self._positions for key in keys):
            self._create(keys)
        return SampleValues(self._values, tuple(self._positions[key] // self._values.itemsize for key in keys))

    def _create(self, keys: Sequence[str]) -> None:
        used = max(self._positions.values(), default=0) + MAX_VALUE_BYTES
        self._reserve(used + sum(len(key) + MAX_VALUE_BYTES for key in keys))
        # The library types its functions in part.
        with closing(MmapedDict(str(self._path))) as file:  # type: ignore[no-untyped-call]  # see above
            for key in keys:
                file.read_value(key)  # type: ignore[no-untyped-call]  # it creates a missing value
        self._positions = self._read_positions()

    def _read_positions(self) -> dict[str, int]:
        found = MmapedDict.read_all_values_from_file(str(self._path))  # type: ignore[no-untyped-call]  # see above
        return {key: position for key, _, _, position in found}

    def _reserve(self, size: int) -> None:
        """Make the file and its mapping at least this large. Former mappings stay valid."""
        while self._size < size:
            self._size = reserve_file(self._path, max(2 * self._size, FILE_BYTES))
            with self._path.open("r+b") as file:
                self._values = memoryview(mmap.mmap(file.fileno(), self._size)).cast("d")


def reserve_file(path: Path, size: int = FILE_BYTES) -> int:
    """Create a private file of prometheus-client, or enlarge it, and return its size. Raises OSError.

    The library creates sparse files. Writing to a hole of such a file ends the process if the disk is full.
    """
    with open(path, "ab", opener=open_private) as file:
        size = max(size, file.tell())
        os.posix_fallocate(file.fileno(), 0, size)
    return size
