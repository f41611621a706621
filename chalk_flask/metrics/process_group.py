"""CPU time, memory and descriptors of a supervisor and its serving processes, under the usual names of one process."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["ProcessGroupCollector"]

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PROPORTIONAL_MEMORY: Final = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_RESIDENT_MEMORY: Final = re.compile(rb"^VmRSS:\s+(\d+) kB", re.MULTILINE)


class _ProcessTimes(NamedTuple):
    """CPU time of a process, that of its ended children, and its start after that of the system, in seconds."""

    own: float
    children: float
    start: float


class ProcessGroupCollector(Collector):
    """Collector of the sums over a process and its children, which /proc of Linux shows."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Without /proc, there are none."""
        with suppress(OSError):
            supervisor = _times(self._pid)
            members = [self._pid, *_children(self._pid)]
            # The time of a process that has ended stays: the supervisor has waited for it.
            seconds = supervisor.children + _sum(members, lambda pid: _times(pid).own)
            yield CounterMetricFamily("process_cpu_seconds", "CPU time of all processes, in seconds.", seconds)
            memory = _sum(members, _memory_bytes)
            yield GaugeMetricFamily("process_resident_memory_bytes", "Memory of all processes, in bytes.", memory)
            files = _sum(members, _count_files)
            yield GaugeMetricFamily("process_open_fds", "Open files and connections of all processes.", files)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            yield GaugeMetricFamily("process_max_fds", "Maximum number of open files of each process.", limit)
            start = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + supervisor.start
            yield GaugeMetricFamily("process_start_time_seconds", "Start of the supervisor, in epoch seconds.", start)


def _sum(pids: Iterable[int], measure: Callable[[int], float]) -> float:
    """Return the sum over processes, without those that have ended meanwhile."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += measure(pid)
    return total


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _times(pid: int) -> _ProcessTimes:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from field 3 of proc(5)
    user, system, children_user, children_system = (int(field) / TICKS_PER_SECOND for field in fields[11:15])
    return _ProcessTimes(user + system, children_user + children_system, int(fields[19]) / TICKS_PER_SECOND)


def _memory_bytes(pid: int) -> float:
    """Return the memory of a process. A part that processes share is divided among them, if the system shows it."""
    try:
        found = _PROPORTIONAL_MEMORY.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        found = _RESIDENT_MEMORY.search(Path(f"/proc/{pid}/status").read_bytes())
    return int(found[1]) * 1024 if found else 0


def _count_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
