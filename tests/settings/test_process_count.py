"""Number of serving processes, by cores and kind of store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chalk_flask.settings import Settings, process_count

SQLITE = "sqlite:///district.db"


@pytest.fixture
def cores() -> Iterator[set[int]]:
    """Cores that this thread may use. The test can restrict them."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_sqlite_store_has_a_process_for_each_core(cores: set[int]) -> None:
    assert process_count(Settings(storage=SQLITE)) == min(len(cores), 64)
    os.sched_setaffinity(0, {min(cores)})
    assert process_count(Settings(storage=SQLITE)) == 1


@pytest.mark.parametrize("storage", ["memory:", "json:///store"])
def test_store_that_one_process_must_serve_has_one(storage: str) -> None:
    assert process_count(Settings(storage=storage)) == 1


@pytest.mark.parametrize("number", [1, 5])
def test_process_count_of_the_settings_is_used(number: int) -> None:
    assert process_count(Settings(storage=SQLITE, processes=number)) == number
