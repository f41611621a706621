"""Tests with several threads, several processes, and a reopened store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from backends import (
    Backend,
    Collection,
    Compare,
    Field,
    Not,
    Query,
    Snapshot,
    StorageBusyError,
    open_store,
    store_exists,
)
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, find_keys, needs, person, record
from backends.testing.worker_process import WorkerProcess, count_up

__all__ = ["ConcurrencyConformance"]

WRITERS = 8
ROUNDS = 10

PEOPLE, *REST = COLLECTIONS
EXTENDED_COLLECTIONS = (
    Collection("people", (*PEOPLE.fields, Field("nick", indexed=True), Field("tries", "number", multi_valued=True))),
    *REST,
    Collection("rooms", (Field("title"),)),
)


class ConcurrencyConformance(Conformance):
    """Tests that writers take turns, and that readers never wait and never see a part of a commit."""

    def test_suite_attributes_match_the_backend(self, store: Backend) -> None:
        assert (store.durable, store.shared) == (self.durable, self.shared)
        assert (store.has_shared_values, store.has_leases) == (self.has_shared_values, self.has_leases)

    def test_concurrent_writers_lose_no_update_and_readers_see_whole_commits(self, store: Backend) -> None:
        start, finished = Barrier(WRITERS + 2), Event()

        def write(writer: int) -> None:
            start.wait()
            for number in range(ROUNDS):
                pair = [record(f"{side}-{writer}-{number}", tags=(side,)) for side in ("left", "right")]
                fill(store, "people", pair)
                count_up(store)

        def read() -> int:
            start.wait()
            snapshots = 0
            while not snapshots or not finished.is_set():
                with store.read(TENANT) as snapshot:
                    assert_complete_commits(snapshot)
                snapshots += 1
            return snapshots

        with ThreadPoolExecutor(WRITERS + 2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            writers = [threads.submit(write, number) for number in range(WRITERS)]
            try:
                for writer in writers:
                    writer.result(timeout=60)
            finally:
                finished.set()
            assert all(reader.result() > 0 for reader in readers)
        with store.read(TENANT) as snapshot:
            assert_complete_commits(snapshot)
            assert len(find_keys(snapshot)) == 2 * WRITERS * ROUNDS
            assert json.loads(snapshot.get_many("notes", ["counter"])["counter"]) == str(WRITERS * ROUNDS)

    def test_snapshot_can_be_read_by_another_thread(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(600)])
        with store.read(TENANT) as snapshot, ThreadPoolExecutor(1) as other_thread:
            page = snapshot.find(Query("people"))
            assert other_thread.submit(page.body).result() == b",".join(person(number).body for number in range(600))
            assert other_thread.submit(find_keys, snapshot).result() == [f"p{number:03}" for number in range(600)]
            other_thread.submit(snapshot.close).result()

    def test_writer_times_out_with_storage_busy_error(self, store: Backend) -> None:
        with ThreadPoolExecutor(1) as other_thread:
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                for wait in 0.0, 0.05:
                    with pytest.raises(StorageBusyError):
                        other_thread.submit(store.write, TENANT, wait).result(timeout=60)
            with store.write(TENANT, wait=0):
                pass
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]

    def test_writer_alone_and_writers_of_other_tenants_wait_for_each_other(self, store: Backend) -> None:
        with ThreadPoolExecutor(1) as other_thread:
            with store.write_alone(TENANT) as transaction:
                transaction.put("people", [person(1)])
                for method in store.write, store.write_alone:
                    with pytest.raises(StorageBusyError):
                        other_thread.submit(method, "north", 0.05).result(timeout=60)
                pending = other_thread.submit(fill, store, "people", [person(2)], "north")
            pending.result(timeout=60)
            with store.write("north") as transaction:
                transaction.put("people", [person(3)])
                with pytest.raises(StorageBusyError):
                    other_thread.submit(store.write_alone, TENANT, 0.05).result(timeout=60)
            with store.write_alone(TENANT, wait=60) as transaction, store.read("north") as north:
                assert find_keys(transaction) == ["p001"]
                assert find_keys(north) == ["p002", "p003"]
            with store.write("north", wait=60):
                pass

    def test_waiting_writer_gets_the_lock(self, store: Backend) -> None:
        with ThreadPoolExecutor(1) as other_thread:
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                pending = other_thread.submit(fill, store, "people", [person(2)])
                with pytest.raises(TimeoutError):
                    pending.result(timeout=0.1)
            pending.result(timeout=60)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p002"]

    @needs("durable")
    def test_committed_records_survive_reopening(self, url: str) -> None:
        assert not store_exists(url)
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(number) for number in range(300)])
            fill(store, "notes", [record("n", state="open")], "_control")
            before = store_contents(store)
        assert store_exists(url)
        with open_store(url, COLLECTIONS) as store:
            assert store_contents(store) == before
            assert store.check() == []
            fill(store, "people", [person(300)])
            with store.read(TENANT) as snapshot:
                assert snapshot.revision > before[1]
                assert len(find_keys(snapshot, Compare("tags", "=", "all"))) == 301

    @needs("durable")
    def test_uncommitted_records_do_not_survive_reopening(self, url: str) -> None:
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(1)])
            transaction = store.write(TENANT)
            transaction.put("people", [person(2)])
            transaction.close()
        with open_store(url, COLLECTIONS) as store, store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]

    @needs("durable")
    def test_store_exists_creates_no_store(self, url: str) -> None:
        assert not store_exists(url)
        assert not store_exists(url)

    @needs("durable")
    def test_reopening_adds_new_fields_and_collections(self, url: str) -> None:
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(number) for number in range(20)])
            before = store_contents(store)
        with open_store(url, EXTENDED_COLLECTIONS) as store:
            assert store_contents(store) == before
            assert store.check() == []
            fill(store, "people", [record("p003", name="new", nick="trey", tries=(1, 2))])
            fill(store, "rooms", [record("r", title="gym")])
            with store.read(TENANT) as snapshot:
                assert (
                    find_keys(snapshot, Compare("nick", "=", "trey"))
                    == find_keys(snapshot, Compare("tries", ">", 1))
                    == ["p003"]
                )
                assert len(find_keys(snapshot, Not(Compare("nick", "~", "")))) == 19
                assert find_keys(snapshot, Compare("title", "=", "gym"), "rooms") == ["r"]
        with open_store(url, COLLECTIONS) as store, store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare("name", "=", "new")) == ["p003"]

    @needs("shared")
    def test_processes_see_commits_of_each_other(self, store: Backend, url: str) -> None:
        fill(store, "people", [person(number) for number in range(600)])
        with WorkerProcess(url) as process:
            for turn in range(5):
                with store.read(TENANT) as snapshot:
                    before = snapshot.revision
                    assert process.ask("find") == find_keys(snapshot)
                    assert process.ask("revision") == snapshot.revision
                    assert (
                        process.ask("deep", 590) == snapshot.find(Query("people", offset=590, limit=5)).body().decode()
                    )
                versions = store.version(TENANT), process.ask("version")
                assert process.ask("hold", f"a{turn}") == "done"
                with store.read(TENANT) as snapshot:
                    assert f"a{turn}" not in find_keys(snapshot)
                    assert process.ask("commit") == "done"
                    assert f"a{turn}" not in find_keys(snapshot)
                with store.read(TENANT) as snapshot:
                    assert find_keys(snapshot)[: turn + 1] == [f"a{number}" for number in range(turn + 1)]
                    assert snapshot.revision > before
                assert has_changed(store, lambda: store.version(TENANT), versions[0])
                fill(store, "people", [record("p000", name=f"turn {turn}")])
                assert has_changed(store, lambda: process.ask("version"), versions[1])

    @needs("shared")
    def test_processes_write_one_after_the_other(self, store: Backend, url: str) -> None:
        with WorkerProcess(url) as process:
            process.send("count", 25)
            for _ in range(25):
                count_up(store)
            assert process.response() == "done"
        with store.read(TENANT) as snapshot:
            assert json.loads(snapshot.get_many("notes", ["counter"])["counter"]) == "50"

    @needs("shared")
    def test_store_can_be_opened_and_read_while_another_process_writes(self, store: Backend, url: str) -> None:
        fill(store, "people", [person(1)])
        with store.write(TENANT) as transaction:
            transaction.put("people", [person(2)])
            with WorkerProcess(url) as process:
                assert process.ask("find") == ["p001"]

    @needs("shared")
    def test_writing_process_makes_other_writers_wait(self, store: Backend, url: str) -> None:
        with WorkerProcess(url) as process:
            assert process.ask("find") == []
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                assert process.ask("try", 0.05) == "busy"
                assert process.ask("find") == []
            assert process.ask("try", 60) == "ok"
            assert process.ask("hold", "p002") == "done"
            with pytest.raises(StorageBusyError):
                store.write(TENANT, wait=0.05)
            assert process.ask("commit") == "done"
            with store.write(TENANT, wait=60) as transaction:
                assert find_keys(transaction) == ["p001", "p002"]


def has_changed(store: Backend, version: Callable[[], object], former: object) -> bool:
    """Return True if a version differs from a former one, at the latest after the lag of the store."""
    if version() == former:
        time.sleep(store.version_lag_seconds)
    return version() != former


def assert_complete_commits(snapshot: Snapshot) -> None:
    """Assert that every commit is visible completely or not at all."""
    sides = [find_keys(snapshot, Compare("tags", "=", side)) for side in ("left", "right")]
    assert [key.partition("-")[2] for key in sides[0]] == [key.partition("-")[2] for key in sides[1]]


def store_contents(store: Backend) -> tuple[bytes, int, list[str]]:
    """Return the people, the revision, and the notes of another tenant."""
    with store.read(TENANT) as snapshot, store.read("_control") as control:
        return snapshot.find(Query("people")).body(), snapshot.revision, find_keys(control, collection="notes")
