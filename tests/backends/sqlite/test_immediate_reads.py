"""Immediate reads of SQLite: they end instead of waiting, and leave the connections as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import (
    MATCH_ALL,
    Collection,
    Compare,
    Field,
    Query,
    QueryTimeoutError,
    Record,
    WaitRequired,
    immediate_reads,
)
from backends.sqlite.backend import SQLiteBackend

ITEMS = Collection("items", (Field("kind", "text", indexed=True), Field("note", "text")))
SECONDS = 5.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteBackend]:
    monkeypatch.setattr("backends.sqlite.pool._MAX_IDLE_SECONDS", 60.0)  # a busy machine may stop a test for seconds
    with SQLiteBackend.open(f"sqlite:///{tmp_path}/store.db", [ITEMS]) as opened:
        put(opened, 300)
        with opened.read("t"):
            pass  # opens the first connection
        yield opened


def put(store: SQLiteBackend, count: int) -> None:
    with store.write("t") as transaction:
        transaction.put(
            "items", [Record(f"k{n:04}", b"{}", {"kind": f"kind{n % 9}", "note": f"a{n}b"}) for n in range(count)]
        )


def idle_count(store: SQLiteBackend) -> int:
    return len(store._readers._idle) + len(store._readers._mapped)


def test_record_by_key_is_read_at_once(store: SQLiteBackend) -> None:
    with immediate_reads(SECONDS), store.read("t", at_least=store.version("t")) as snapshot:
        assert snapshot.get_many("items", ["k0001"]) == {"k0001": b"{}"}


def test_commit_requires_a_wait_until_a_thread_has_read(store: SQLiteBackend) -> None:
    put(store, 3)
    before = idle_count(store)
    with immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.read("t")
    assert idle_count(store) == before
    with store.read("t"):
        pass
    with immediate_reads(SECONDS), store.read("t") as snapshot:
        assert snapshot.exists("items", Compare("kind", "=", "kind1"))


def test_second_connection_is_not_opened(store: SQLiteBackend) -> None:
    with store.read("t"), immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.read("t")


def test_write_is_refused_and_leaves_the_lock_free(store: SQLiteBackend) -> None:
    with immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.write("t")
    put(store, 1)


def test_lock_that_another_thread_holds_is_not_awaited(store: SQLiteBackend) -> None:
    with store._readers._lock, immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.version("t")
    with immediate_reads(SECONDS):
        assert store.version("t")


@pytest.mark.parametrize("where", [MATCH_ALL, Compare("note", "~", "5b")], ids=["all", "text"])
def test_count_of_all_records_is_left_to_a_thread(store: SQLiteBackend, where: object) -> None:
    query = Query("items", where, limit=2)  # type: ignore[arg-type]  # both are conditions
    with immediate_reads(SECONDS), store.read("t") as snapshot, pytest.raises(WaitRequired):
        snapshot.find(query)
    with store.read("t") as snapshot:
        expected = snapshot.find(query)
        body = expected.body()
    with immediate_reads(SECONDS), store.read("t") as snapshot:
        found = snapshot.find(query)
        assert (found.total, found.body()) == (expected.total, body)


def test_count_by_an_index_is_done_at_once(store: SQLiteBackend) -> None:
    with immediate_reads(SECONDS), store.read("t") as snapshot:
        assert snapshot.find(Query("items", Compare("kind", "=", "kind1"), limit=2)).total == 34


def test_long_query_times_out_and_its_connection_can_be_used_again(store: SQLiteBackend) -> None:
    put(store, 20_000)
    rare = Compare("note", "~", "19999")
    with store.read("t"):
        pass
    before = idle_count(store)
    with immediate_reads(1e-9), store.read("t") as snapshot, pytest.raises(QueryTimeoutError):
        snapshot.exists("items", rare)
    assert idle_count(store) == before
    with store.read("t") as snapshot:
        assert snapshot.exists("items", rare)


def test_other_threads_may_wait(store: SQLiteBackend) -> None:
    put(store, 2)
    found: list[object] = []

    def read() -> None:
        with store.read("t") as snapshot:
            found.append(snapshot.get_many("items", ["k0000"]))

    with immediate_reads(SECONDS):
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    assert found == [{"k0000": b"{}"}]
