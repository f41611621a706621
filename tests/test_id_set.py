"""Sets of ids, as text and as hashes."""

from __future__ import annotations

import pytest

from chalk_flask.id_set import IdSet


@pytest.mark.parametrize("exact", [True, False])
def test_membership_after_sort(exact: bool) -> None:
    ids = IdSet(exact=exact)
    for key in ("b", "a", "c"):
        assert ids.add(key)
    assert ids.sort() == set()
    assert ("a" in ids, "c" in ids, "d" in ids) == (True, True, False)


def test_exact_set_reports_duplicate_at_once() -> None:
    ids = IdSet(exact=True)
    assert (ids.add("a"), ids.add("a")) == (True, False)


def test_hashed_set_finds_duplicates_after_sort() -> None:
    ids, rows = IdSet(exact=False), [(2, "a"), (3, "b"), (4, "a"), (5, "a")]
    for _, key in rows:
        assert ids.add(key)
    hashes = ids.sort()
    assert hashes == {hash("a")}
    assert list(IdSet.repeated_rows(rows, hashes)) == [(4, "a"), (5, "a")]


def test_equal_hashes_of_different_ids_are_no_duplicate() -> None:
    rows = [(2, "a"), (3, "b")]
    assert list(IdSet.repeated_rows(rows, {hash("a"), hash("b")})) == []
