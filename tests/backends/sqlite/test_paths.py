"""Table of the paths of dynamic fields: it contains no path without values, and thousands of paths do no harm."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from backends import Backend, Compare, Record, Value, open_store
from backends.testing.base import COLLECTIONS, SimulatedError, fill, find_keys, record

PATHS_PER_RECORD = 400
MANY_PATHS = 40_000
"""More paths than SQLite accepts as parameters of one statement."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chalk.db"


def open_file(file: Path) -> Backend:
    return open_store(f"sqlite:///{file}", COLLECTIONS)


def stored_paths(file: Path) -> set[str]:
    """Return the dynamic paths of a store that is closed."""
    with closing(sqlite3.connect(file)) as connection:
        return {path for (path,) in connection.execute("SELECT path FROM _paths WHERE path LIKE 'metadata.%'")}


def person(key: str, *names: str, **values: Value) -> Record:
    """Return a record with these names in its metadata."""
    return record(key, **values, **{f"metadata__{name}": "x" for name in names})


def test_path_without_values_is_removed(file: Path) -> None:
    with open_file(file) as store:
        fill(store, "people", [person("a", "old", "both"), person("b", "both")])
        fill(store, "people", [person("a", "new")])
    assert stored_paths(file) == {"metadata.both", "metadata.new"}


def test_paths_of_deleted_records_are_removed(file: Path) -> None:
    with open_file(file) as store:
        fill(store, "people", [person("a", "one"), person("b", "two")])
        fill(store, "people", [person("a", "one")], tenant="another")
        with store.write("default") as transaction:
            transaction.delete("people", ["a", "b"])
        with store.read("another") as snapshot:
            assert find_keys(snapshot, Compare("metadata.one", "=", "x")) == ["a"]
    assert stored_paths(file) == {"metadata.one"}


def test_paths_that_many_writes_leave_behind_do_not_pile_up(file: Path) -> None:
    with open_file(file) as store:
        fill(store, "people", [person(f"p{number}", "shared") for number in range(5_000)])
        for number in range(300):
            fill(store, "people", [person("a", *(f"{number}-{name}" for name in range(100)))])
    assert len(stored_paths(file)) < 30_000 / 2


def test_failed_transaction_removes_no_path(file: Path) -> None:
    with open_file(file) as store:
        fill(store, "people", [person("a", "old")])
        with pytest.raises(SimulatedError), store.write("default") as transaction:
            transaction.delete("people", ["a"])
            raise SimulatedError
        with store.read("default") as snapshot:
            assert find_keys(snapshot, Compare("metadata.old", "=", "x")) == ["a"]
    assert stored_paths(file) == {"metadata.old"}


def test_removed_path_can_be_stored_again(file: Path) -> None:
    old = Compare("metadata.old", "=", "x")
    with open_file(file) as store:
        fill(store, "people", [person("a", "old")])
        with store.read("default") as before:
            assert find_keys(before, old) == ["a"]
            fill(store, "people", [person("a", "new")])
            with store.read("default") as between:
                assert find_keys(between, old) == []
            fill(store, "people", [person("b", "newer"), person("c", "old")])
            with store.read("default") as after:
                assert find_keys(after, old) == ["c"]
                assert find_keys(after, Compare("metadata.newer", "=", "x")) == ["b"]
            assert find_keys(before, old) == ["a"]


def test_records_with_many_thousand_paths_can_be_changed(file: Path) -> None:
    with open_file(file) as store:
        fill(store, "people", with_many_paths("x"))
        fill(store, "people", with_many_paths("y"))
        last = Compare(f"metadata.{MANY_PATHS - 1}", "=", "y")
        with store.read("default") as snapshot:
            [key] = find_keys(snapshot, last)
            [copied] = [one for one in snapshot.scan("people") if one.key == key]
            assert len(copied.values) == PATHS_PER_RECORD
        with store.write("default") as transaction:
            transaction.delete("people", [key])
            assert find_keys(transaction, last) == []
            transaction.delete("people", transaction.keys("people"))
    assert stored_paths(file) == set()


def with_many_paths(value: str) -> Iterable[Record]:
    """Yield records that have 40,000 paths together."""
    for start in range(0, MANY_PATHS, PATHS_PER_RECORD):
        values: dict[str, Value] = {f"metadata.{n}": value for n in range(start, start + PATHS_PER_RECORD)}
        yield Record(f"p{start:05}", record(f"p{start:05}").body, values)
