import pytest

from backends import batched


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
