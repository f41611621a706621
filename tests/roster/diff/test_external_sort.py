"""External sort: rows are returned in the order of their keys, regardless of the order in which they were added."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from chalk_flask.roster.diff.external_sort import CHUNK_ROWS, MAX_MERGED_RUNS, RUN_ROWS, ExternalSorter, SortableRecord

COUNT = 5 * RUN_ROWS + CHUNK_ROWS // 2


@pytest.fixture
def sorter() -> Iterator[ExternalSorter]:
    sorter = ExternalSorter()
    yield sorter
    sorter.close()


def row(number: int) -> SortableRecord:
    return f"key-{number:07}", b'{"number":%d}' % number, {"number": float(number), "names": ("a", "b"), "none": None}


def keyed_row(key: str) -> SortableRecord:
    return key, b"{}", {}


def fill(sorter: ExternalSorter, numbers: list[int], batch: int = 250) -> None:
    for start in range(0, len(numbers), batch):
        sorter.add([row(number) for number in numbers[start : start + batch]])


def shuffled(numbers: list[int]) -> list[int]:
    return random.Random(7).sample(numbers, len(numbers))


def interleaved(numbers: list[int]) -> list[int]:
    """Return the numbers so that each run spans them all, and ends far behind the ends of the others."""
    return [number for start in range(5) for number in numbers[start::5]]


def reversed_runs(numbers: list[int]) -> list[int]:
    return numbers[::-1]


def in_order(numbers: list[int]) -> list[int]:
    return numbers


def overlapping(numbers: list[int]) -> list[int]:
    """Return the numbers so that each run overlaps with the next one only."""
    return sorted(numbers, key=lambda number: number + 1.5 * RUN_ROWS * (number % 2))


@pytest.mark.parametrize("arrange", [in_order, shuffled, interleaved, reversed_runs, overlapping])
@pytest.mark.parametrize("count", [0, 1, RUN_ROWS - 1, RUN_ROWS, RUN_ROWS + 1, COUNT])
def test_rows_come_in_the_order_of_keys(
    sorter: ExternalSorter, arrange: Callable[[list[int]], list[int]], count: int
) -> None:
    fill(sorter, arrange(list(range(count))))
    expected = [row(number) for number in range(count)]
    assert list(sorter.rows()) == expected
    assert list(sorter.rows()) == expected


def test_rows_with_equal_keys_are_all_kept(sorter: ExternalSorter) -> None:
    numbers = [number // 3 for number in range(COUNT)]
    fill(sorter, shuffled(numbers))
    assert list(sorter.rows()) == [row(number) for number in numbers]


def test_one_key_in_several_runs_is_kept(sorter: ExternalSorter) -> None:
    fill(sorter, [1] * COUNT)
    assert list(sorter.rows()) == [row(1)] * COUNT


def test_batches_larger_than_a_run_are_sorted(sorter: ExternalSorter) -> None:
    fill(sorter, shuffled(list(range(COUNT))), batch=3 * RUN_ROWS)
    assert list(sorter.rows()) == [row(number) for number in range(COUNT)]


def test_too_many_runs_are_sorted_one_by_one(sorter: ExternalSorter) -> None:
    keys = [[f"{letter}-{number}" for letter in "ba"] * (RUN_ROWS // 2) for number in range(MAX_MERGED_RUNS + 1)]
    runs = [[keyed_row(key) for key in run] for run in keys]
    for run in runs:
        sorter.add(run)
    assert list(sorter.rows()) == [item for run in runs for item in sorted(run, key=lambda item: item[0])]
