"""Fixtures of the tests of authentication: a store without an application, and a clock."""

from __future__ import annotations

import cProfile
import time
from collections.abc import Callable, Iterator

import pytest

from backends import Backend, Snapshot, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.storage import COLLECTIONS

__all__ = ["CountingBackend", "count_calls", "wait_until"]


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


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 60) -> bool:
    """Return True as soon as the condition holds, False if it does not hold in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def count_calls(work: Callable[[], object]) -> int:
    """Return how many functions of Python and C run during one call: a cost that other load does not change."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())
