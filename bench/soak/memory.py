"""Memory of a service: the sum over its process and all descendants."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from bench.servers import process_family

__all__ = ["MemorySample", "memory_slope", "sampling_memory"]

INTERVAL_SECONDS: Final = 2.0
MAX_PERIODS: Final = 30
"""Number of periods of equal length whose medians the slope is computed from, at most."""


@dataclass(frozen=True)
class MemorySample:
    """Seconds since the start, number of processes, and their memory in MiB.

    `resident` counts a shared page in each process, `proportional` divides it by the number of processes (PSS).
    """

    seconds: float
    processes: int
    resident: float
    proportional: float


@contextmanager
def sampling_memory(pid: int, started: float) -> Iterator[list[MemorySample]]:
    """Sample the memory of a process and its descendants until the block ends; yield the growing list."""
    samples: list[MemorySample] = []
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(INTERVAL_SECONDS if samples else 0):
            samples.append(_measure_memory(pid, time.perf_counter() - started))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        finished.set()
        thread.join()


def memory_slope(samples: list[MemorySample]) -> tuple[float, float]:
    """Return the growth of the proportional memory in MiB per second, and its mean in MiB.

    The slope is a regression over the medians of periods, because a process that runs an import lives for seconds only.
    """
    size = max(1, len(samples) // MAX_PERIODS)
    periods = [samples[start : start + size] for start in range(0, len(samples) - size + 1, size)]
    times = [median(sample.seconds for sample in period) for period in periods]
    sizes = [median(sample.proportional for sample in period) for period in periods]
    slope = linear_regression(times, sizes).slope if len(periods) > 1 else 0.0
    return slope, sum(sizes) / len(sizes)


def _measure_memory(pid: int, seconds: float) -> MemorySample:
    sizes = [size for process in process_family(pid) if (size := _process_memory(process))]
    return MemorySample(seconds, len(sizes), sum(size[0] for size in sizes), sum(size[1] for size in sizes))


def _process_memory(pid: int) -> tuple[float, float] | None:
    """Return the resident and the proportional memory in MiB, or None if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"^(Rss|Pss): +(\d+) kB", text, re.MULTILINE)}
    return (sizes["Rss"], sizes["Pss"]) if len(sizes) == 2 else None
