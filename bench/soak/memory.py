"""Memory of a service: its serving processes, and beside them the processes that run imports."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Final

from bench.servers import process_family

__all__ = ["MemorySample", "MemoryTrend", "fit_trend", "measure_memory", "period_floors", "sampling_memory"]

INTERVAL_SECONDS: Final = 2.0
PERIODS: Final = 30
"""Number of periods of equal length whose minima the trend is computed from."""


@dataclass(frozen=True)
class MemorySample:
    """Seconds since the start, number of serving processes, and memory in MiB.

    Shared pages are divided by the number of processes that share them (PSS), and the map of the store is left out.
    `serving` is the memory of the supervisor and its serving processes, and `others` that of the processes that run
    imports.
    """

    seconds: float
    processes: int
    serving: float
    others: float


@dataclass(frozen=True)
class MemoryTrend:
    """Line through the memory over time: MiB per second, and MiB at the start of the measurement."""

    slope: float
    start: float

    def at(self, seconds: float) -> float:
        """Return the memory in MiB at a time."""
        return self.start + self.slope * seconds


@contextmanager
def sampling_memory(pid: int, started: float) -> Iterator[list[MemorySample]]:
    """Sample the memory of a process and its descendants until the block ends; yield the growing list."""
    samples: list[MemorySample] = []
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(INTERVAL_SECONDS if samples else 0):
            samples.append(measure_memory(pid, time.perf_counter() - started))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        finished.set()
        thread.join()


def period_floors(samples: Sequence[MemorySample]) -> list[tuple[float, float]]:
    """Return the time and size of the least memory of the serving processes in each period.

    Samples beside an import are left out: the serving processes then use memory for its requests, and share pages with
    it. A period without other samples has no floor. If an import was running all the time, its samples count.
    """
    counted = [sample for sample in samples if not sample.others] or samples
    begin, length = samples[0].seconds, (samples[-1].seconds - samples[0].seconds) / PERIODS or 1.0
    periods: dict[int, list[tuple[float, float]]] = {}
    for sample in counted:
        number = min(int((sample.seconds - begin) / length), PERIODS - 1)
        periods.setdefault(number, []).append((sample.serving, sample.seconds))
    return [(seconds, size) for size, seconds in map(min, periods.values())]


def fit_trend(floors: Sequence[tuple[float, float]]) -> MemoryTrend:
    """Return the Theil-Sen line through the floors: its slope is the median of the slopes of all pairs."""
    slopes = [(size - former_size) / (at - former) for (former, former_size), (at, size) in combinations(floors, 2)]
    slope = median(slopes) if slopes else 0.0
    return MemoryTrend(slope, median(size - slope * at for at, size in floors))


def measure_memory(pid: int, seconds: float) -> MemorySample:
    """Measure the memory now. A process that runs an import has a session of its own."""
    session, serving, others = os.getsid(pid), [], 0.0
    for process in process_family(pid):
        with suppress(OSError):  # The process has ended.
            size = _proportional_memory(process)
            if os.getsid(process) == session:
                serving.append(size)
            else:
                others += size
    return MemorySample(seconds, len(serving), sum(serving), others)


def _proportional_memory(pid: int) -> float:
    """Return the memory of a process in MiB, without the map of the store. Raises OSError if it has ended.

    The map belongs to the file cache of the system, which holds the store in any case.
    """
    size, is_store = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            is_store = line.endswith(".db")
        elif name == "Pss:" and not is_store:
            size += int(values[0])
    if not size:
        raise ProcessLookupError(pid)
    return size / 1024
