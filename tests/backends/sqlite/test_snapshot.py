"""Queries of SQLite snapshots."""

from __future__ import annotations

from pathlib import Path

from backends import And, Compare, Not, Query, Where, open_store
from backends.testing.base import COLLECTIONS, record


def test_deep_condition_with_a_range_finds_its_records(tmp_path: Path) -> None:
    deep: Where = Compare("name", "=", "b")
    for _ in range(60):
        deep = Not(And((deep, Compare("name", "=", "b"))))
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        with store.write("default") as transaction:
            transaction.put("people", [record("a", name="b")])
        with store.read("default") as snapshot:
            assert snapshot.find(Query("people", And((Compare("name", ">=", ""), deep)))).total == 1
