from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, Record, batched, batched_by_size, open_store, read_first
from backends.testing import COLLECTIONS
from tests.conftest import url_in


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_batched_keeps_all_items_in_order(size: int) -> None:
    batches = list(batched("abc", size))
    assert [item for batch in batches for item in batch] == ["a", "b", "c"]
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert 1 <= len(batches[-1]) <= size


def test_batched_reads_no_item_before_it_is_needed() -> None:
    numbers = iter(range(10))
    assert next(batched(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3


def test_batched_yields_nothing_for_no_items() -> None:
    assert list(batched([], 3)) == []


@pytest.mark.parametrize(
    ("sizes", "max_items", "max_size", "expected"),
    [
        ([], 3, 10, []),
        ([10, 1, 9, 1], 3, 10, [[10], [1, 9], [1]]),
        ([11, 11, 1], 3, 10, [[11], [11], [1]]),
        ([1, 11, 1, 1], 3, 10, [[1], [11], [1, 1]]),
        ([1, 1, 1, 1], 3, 10, [[1, 1, 1], [1]]),
        ([0, 0], 3, 0, [[0, 0]]),
    ],
)
def test_batches_by_size_are_limited_in_number_and_in_size(
    sizes: list[int], max_items: int, max_size: int, expected: list[list[int]]
) -> None:
    assert list(batched_by_size(sizes, int, max_items, max_size)) == expected


def test_batches_by_size_read_one_item_ahead_at_most() -> None:
    numbers = iter([4, 4, 4, 4, 4])
    assert next(batched_by_size(numbers, int, 100, 8)) == [4, 4]
    assert list(numbers) == [4, 4]


@pytest.fixture
def store(backend: str, tmp_path: Path) -> Iterator[Backend]:
    with open_store(url_in(tmp_path, backend), COLLECTIONS) as opened:
        with opened.write("default") as transaction:
            transaction.put("people", [Record(f"p{number}", b'"%b"' % (b"x" * 98)) for number in range(40)])
            transaction.put("groups", [Record("large", b'"%b"' % (b"x" * 998))])
        yield opened


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("ids", "max_bytes", "expected"),
    [
        ([], 1000, 0),
        (["p1", "unknown", "p2"], 1000, 3),
        ([f"p{number}" for number in range(40)], 4000, 40),
        (["large", "p1"], 500, 1),
        (["unknown", "large"], 500, 1),
    ],
)
def test_first_bodies_are_limited_in_bytes(store: Backend, ids: list[str], max_bytes: int, expected: int) -> None:
    pairs = [("groups" if key == "large" else "people", key) for key in ids]
    with store.read("default") as snapshot:
        count, bodies = read_first(snapshot, pairs, max_bytes)
        assert count == expected
        stored = {(name, key): body for name, key in pairs[:count] for body in snapshot.get_many(name, [key]).values()}
    assert bodies == stored


@pytest.mark.every_backend
def test_first_bodies_fill_at_least_a_quarter_of_the_limit(store: Backend) -> None:
    pairs = [("people", f"p{number}") for number in range(40)]
    with store.read("default") as snapshot:
        count, bodies = read_first(snapshot, pairs, 1000)
    assert 3 <= count <= 10
    assert set(bodies) == set(pairs[:count])
