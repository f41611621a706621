"""Fixtures of the tests of authentication: a store without an application, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from backends import Backend, Snapshot, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.storage import COLLECTIONS
from tests.support.clock import FakeClock

__all__ = ["CountingBackend", "best_cpu_seconds", "wait_until"]


class CountingBackend(MemoryBackend):
    """Memory backend that counts its snapshots."""

    read_count = 0

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        self.read_count += 1
        return super().read(tenant, at_least=at_least, query_seconds=query_seconds)


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    """Empty store of the backend of this test run."""
    with open_store(storage, COLLECTIONS) as store:
        yield store


@pytest.fixture
def counting_store() -> CountingBackend:
    return CountingBackend.open("memory:", COLLECTIONS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 10) -> bool:
    """Return True as soon as the condition holds, False if it does not hold in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def best_cpu_seconds(work: Callable[[], object], calls: int = 100, rounds: int = 20) -> float:
    """Return the CPU time of one call in the fastest round: other processes make rounds slower, never faster."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            work()
        times.append((time.process_time() - start) / calls)
    return min(times)
