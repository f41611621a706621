"""Many threads, several processes, and the store that is opened again."""

from __future__ import annotations

import json
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
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, found, needs, person, record
from backends.testing.worker_process import WorkerProcess, count_up

__all__ = ["ConcurrencyConformance"]

WRITERS = 8
ROUNDS = 10

PEOPLE, *REST = COLLECTIONS
WIDER = (
    Collection("people", (*PEOPLE.fields, Field("nick", indexed=True), Field("tries", "number", multi_valued=True))),
    *REST,
    Collection("rooms", (Field("title"),)),
)


class ConcurrencyConformance(Conformance):
    """One writer at a time, whoever it is, and readers that never wait and never see a half."""

    def test_the_backend_is_what_the_suite_takes_it_for(self, store: Backend) -> None:
        assert (store.durable, store.shared) == (self.durable, self.shared)

    def test_eight_writers_lose_nothing_and_readers_see_no_half(self, store: Backend) -> None:
        start, over = Barrier(WRITERS + 2), Event()

        def write(writer: int) -> None:
            start.wait()
            for number in range(ROUNDS):
                pair = [record(f"{side}-{writer}-{number}", tags=(side,)) for side in ("left", "right")]
                fill(store, "people", pair)
                count_up(store)

        def read() -> int:
            start.wait()
            sights = 0
            while not sights or not over.is_set():
                with store.read(TENANT) as at:
                    assert_whole(at)
                sights += 1
            return sights

        with ThreadPoolExecutor(WRITERS + 2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            writers = [threads.submit(write, number) for number in range(WRITERS)]
            try:
                for writer in writers:
                    writer.result(timeout=60)
            finally:
                over.set()
            assert all(reader.result() > 0 for reader in readers)
        with store.read(TENANT) as at:
            assert_whole(at)
            assert len(found(at)) == 2 * WRITERS * ROUNDS
            assert json.loads(at.get_many("notes", ["counter"])["counter"]) == str(WRITERS * ROUNDS)

    def test_a_snapshot_may_be_read_by_another_thread_than_made_it(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(600)])
        with store.read(TENANT) as at, ThreadPoolExecutor(1) as elsewhere:
            page = at.find(Query("people"))
            assert elsewhere.submit(page.body).result() == b",".join(person(number).body for number in range(600))
            assert elsewhere.submit(found, at).result() == [f"p{number:03}" for number in range(600)]
            elsewhere.submit(at.close).result()

    def test_a_writer_that_waited_long_enough_is_told_that_the_store_is_busy(self, store: Backend) -> None:
        with ThreadPoolExecutor(1) as elsewhere:
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                for wait in 0.0, 0.05:
                    with pytest.raises(StorageBusyError):
                        elsewhere.submit(store.write, TENANT, wait).result(timeout=10)
            with store.write(TENANT, wait=0):
                pass
        with store.read(TENANT) as at:
            assert found(at) == ["p001"]

    def test_a_writer_that_waits_gets_its_turn(self, store: Backend) -> None:
        with ThreadPoolExecutor(1) as elsewhere:
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                waiting = elsewhere.submit(fill, store, "people", [person(2)])
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.1)
            waiting.result(timeout=10)
        with store.read(TENANT) as at:
            assert found(at) == ["p001", "p002"]

    @needs("durable")
    def test_what_was_committed_is_there_when_the_store_is_opened_again(self, url: str) -> None:
        assert not store_exists(url)
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(number) for number in range(300)])
            fill(store, "notes", [record("n", state="open")], "_control")
            before = everything(store)
        assert store_exists(url)
        with open_store(url, COLLECTIONS) as store:
            assert everything(store) == before
            assert store.check() == []
            fill(store, "people", [person(300)])
            with store.read(TENANT) as at:
                assert at.revision > before[1]
                assert len(found(at, Compare("tags", "=", "all"))) == 301

    @needs("durable")
    def test_what_was_not_committed_is_gone_when_the_store_is_opened_again(self, url: str) -> None:
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(1)])
            transaction = store.write(TENANT)
            transaction.put("people", [person(2)])
            transaction.close()
        with open_store(url, COLLECTIONS) as store, store.read(TENANT) as at:
            assert found(at) == ["p001"]

    @needs("durable")
    def test_asking_whether_a_store_exists_creates_none(self, url: str) -> None:
        assert not store_exists(url)
        assert not store_exists(url)

    @needs("durable")
    def test_a_store_is_widened_by_new_fields_and_collections(self, url: str) -> None:
        with open_store(url, COLLECTIONS) as store:
            fill(store, "people", [person(number) for number in range(20)])
            before = everything(store)
        with open_store(url, WIDER) as store:
            assert everything(store) == before
            assert store.check() == []
            fill(store, "people", [record("p003", name="new", nick="trey", tries=(1, 2))])
            fill(store, "rooms", [record("r", title="gym")])
            with store.read(TENANT) as at:
                assert found(at, Compare("nick", "=", "trey")) == found(at, Compare("tries", ">", 1)) == ["p003"]
                assert len(found(at, Not(Compare("nick", "~", "")))) == 19
                assert found(at, Compare("title", "=", "gym"), "rooms") == ["r"]
        with open_store(url, COLLECTIONS) as store, store.read(TENANT) as at:
            assert found(at, Compare("name", "=", "new")) == ["p003"]

    @needs("shared")
    def test_two_processes_see_what_the_other_committed(self, store: Backend, url: str) -> None:
        fill(store, "people", [person(number) for number in range(600)])
        with WorkerProcess(url) as peer:
            for turn in range(5):
                with store.read(TENANT) as at:
                    before = at.revision
                    assert peer.ask("find") == found(at)
                    assert peer.ask("revision") == at.revision
                    assert peer.ask("deep", 590) == at.find(Query("people", offset=590, limit=5)).body().decode()
                stamps = store.version(TENANT), peer.ask("stamp")
                assert peer.ask("hold", f"a{turn}") == "done"
                with store.read(TENANT) as at:
                    assert f"a{turn}" not in found(at)
                    assert peer.ask("commit") == "done"
                    assert f"a{turn}" not in found(at)
                with store.read(TENANT) as at:
                    assert found(at)[: turn + 1] == [f"a{number}" for number in range(turn + 1)]
                    assert at.revision > before
                assert store.version(TENANT) != stamps[0]
                fill(store, "people", [record("p000", name=f"turn {turn}")])
                assert peer.ask("stamp") != stamps[1]

    @needs("shared")
    def test_two_processes_write_one_after_the_other(self, store: Backend, url: str) -> None:
        with WorkerProcess(url) as peer:
            peer.tell("count", 25)
            for _ in range(25):
                count_up(store)
            assert peer.answer() == "done"
        with store.read(TENANT) as at:
            assert json.loads(at.get_many("notes", ["counter"])["counter"]) == "50"

    @needs("shared")
    def test_a_store_may_be_opened_and_read_while_another_process_writes(self, store: Backend, url: str) -> None:
        fill(store, "people", [person(1)])
        with store.write(TENANT) as transaction:
            transaction.put("people", [person(2)])
            with WorkerProcess(url) as peer:
                assert peer.ask("find") == ["p001"]

    @needs("shared")
    def test_a_process_that_writes_keeps_the_others_waiting(self, store: Backend, url: str) -> None:
        with WorkerProcess(url) as peer:
            assert peer.ask("find") == []
            with store.write(TENANT) as transaction:
                transaction.put("people", [person(1)])
                assert peer.ask("try", 0.05) == "busy"
                assert peer.ask("find") == []
            assert peer.ask("try", 5) == "mine"
            assert peer.ask("hold", "theirs") == "done"
            with pytest.raises(StorageBusyError):
                store.write(TENANT, wait=0.05)
            assert peer.ask("commit") == "done"
            with store.write(TENANT, wait=5) as transaction:
                assert found(transaction) == ["p001", "theirs"]


def assert_whole(at: Snapshot) -> None:
    """Every pair is there with both of its sides."""
    sides = [found(at, Compare("tags", "=", side)) for side in ("left", "right")]
    assert [key.partition("-")[2] for key in sides[0]] == [key.partition("-")[2] for key in sides[1]]


def everything(store: Backend) -> tuple[bytes, int, list[str]]:
    """The people, the revision, and the notes of another tenant."""
    with store.read(TENANT) as at, store.read("_control") as control:
        return at.find(Query("people")).body(), at.revision, found(control, collection="notes")
