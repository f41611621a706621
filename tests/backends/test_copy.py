"""Tests of copies between all built-in backends, and of interrupted copies."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from threading import Event
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import (
    CONTROL,
    COPY_MARKER,
    Backend,
    Collection,
    IncompleteCopyError,
    Query,
    Record,
    StorageBusyError,
    StorageUnavailableError,
    StoreNotEmptyError,
    copy_store,
    open_store,
)
from backends.testing import COLLECTIONS
from backends.testing.base import SimulatedError, fill, person, record
from backends.testing.property_based import DATA, QUERY_LISTS, Data, results, with_body
from tests.conftest import url_in
from tests.support.paths import ROOT
from tests.support.storage.tenant_locks import TenantLockBackend

KINDS = ("json", "memory", "sqlite")
ALL = (*COLLECTIONS, COPY_MARKER)
TENANTS = ("default", "north", CONTROL)

OpenByName: TypeAlias = Callable[..., Backend]


@pytest.fixture
def open_by_name(tmp_path: Path) -> Iterator[OpenByName]:
    """Return a function that opens a store by kind and name; all stores are closed after the test."""
    stores: list[Backend] = []

    def store(kind: str, name: str = "a", *, allow_incomplete: bool = False) -> Backend:
        if kind == "tenant locks":
            stores.append(TenantLockBackend(ALL))
        else:
            stores.append(open_store(url_in(tmp_path / name, kind), ALL, allow_incomplete=allow_incomplete))
        return stores[-1]

    yield store
    for opened in stores:
        opened.close()


def content(store: Backend) -> dict[str, dict[str, list[Record]]]:
    """Return all records by tenant and collection."""
    contents: dict[str, dict[str, list[Record]]] = {}
    for tenant in store.tenants():
        with store.read(tenant) as at:
            records = {collection.name: list(at.scan(collection.name)) for collection in ALL}
        if any(records.values()):
            contents[tenant] = records
    return contents


def with_people(store: Backend) -> Backend:
    """Return the store with three tenants."""
    for number, tenant in enumerate(TENANTS):
        fill(store, "people", [person(index) for index in range(40 * number, 40 * number + 60)], tenant)
        fill(store, "notes", [record("n", state=tenant)], tenant)
    return store


@pytest.mark.parametrize(("source", "target"), [*permutations(KINDS, 2), *((kind, kind) for kind in KINDS)])
def test_copy_of_generated_tenants_gives_equal_results(source: str, target: str, open_by_name: OpenByName) -> None:
    number = 0

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from([*TENANTS, "", "A/b", "ü\0"]), DATA, max_size=4), QUERY_LISTS)
    def agree(world: dict[str, Data], queries: list[Query]) -> None:
        nonlocal number
        number += 1
        origin, target_store = open_by_name(source, f"from {number}"), open_by_name(target, f"to {number}")
        for tenant, data in world.items():
            with origin.write(tenant) as transaction:
                for name, records in data.items():
                    transaction.put(name, [with_body(key, values) for key, values in records.items()])
        counts = copy_store(origin, target_store)
        assert content(target_store) == content(origin)
        assert counts == {
            t: {n: len(r) for n, r in collections.items() if r} for t, collections in content(origin).items()
        }
        assert target_store.check() == []
        for tenant in world:
            with origin.read(tenant) as before, target_store.read(tenant) as after:
                assert [results(after, query) for query in queries] == [results(before, query) for query in queries]
                assert (after.revision > 0) == (before.revision > 0)

    agree()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("collection", "tenant"), [("people", "north"), ("notes", CONTROL), ("groups", "default")])
def test_copy_into_a_store_with_records_is_rejected(
    kind: str, collection: str, tenant: str, open_by_name: OpenByName
) -> None:
    origin, target_store = with_people(open_by_name("sqlite")), open_by_name(kind, "b")
    fill(target_store, collection, [record("theirs")], tenant)
    before = content(target_store)
    for restart in (False, True):
        with pytest.raises(StoreNotEmptyError, match=collection):
            copy_store(origin, target_store, restart=restart)
    assert content(target_store) == before


def test_records_of_one_store_are_neither_copied_nor_in_the_way() -> None:
    declared = (Collection("people"), Collection("sessions", bumps_revision=False, is_copied=False), COPY_MARKER)
    with open_store("memory:", declared) as origin, open_store("memory:", declared) as target_store:
        fill(origin, "people", [record("ours")], CONTROL)
        fill(origin, "sessions", [record("ours")], CONTROL)
        fill(target_store, "sessions", [record("theirs")], CONTROL)
        assert copy_store(origin, target_store) == {CONTROL: {"people": 1}}
        with target_store.read(CONTROL) as snapshot:
            assert (list(snapshot.keys("people")), list(snapshot.keys("sessions"))) == (["ours"], ["theirs"])


def test_copy_contains_the_selected_records_only() -> None:
    declared = (Collection("people", is_record_copied=lambda record: record.key != "ours"), COPY_MARKER)
    with open_store("memory:", declared) as origin, open_store("memory:", declared) as target_store:
        fill(origin, "people", [record("ours"), record("theirs")])
        assert copy_store(origin, target_store) == {"default": {"people": 1}}


def test_copy_into_an_emptied_store_raises_its_revision(open_by_name: OpenByName) -> None:
    origin, target_store = with_people(open_by_name("json")), open_by_name("sqlite", "b")
    fill(target_store, "people", [record("deleted")])
    with target_store.write("default") as transaction:
        transaction.delete("people", ["deleted"])
    with target_store.read("default") as at:
        before = at.revision
    copy_store(origin, target_store)
    with target_store.read("default") as at:
        assert at.revision > before
    assert content(target_store) == content(origin)


class UnreadableControlStore:
    """Store whose last tenant cannot be read, so that a copy of it stays incomplete."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self.write_alone, self.tenants = store.write_alone, store.tenants

    def read(self, tenant: str) -> object:
        if tenant == CONTROL:
            raise SimulatedError
        return self._store.read(tenant)


def interrupt_copy(source: Backend, target: Backend) -> None:
    """Leave an incomplete copy in the target."""
    with pytest.raises(SimulatedError):
        copy_store(UnreadableControlStore(source), target)  # type: ignore[arg-type]  # has all methods of Backend that a copy uses


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_incomplete_copy_cannot_be_opened_and_can_be_restarted(
    kind: str, open_by_name: OpenByName, tmp_path: Path
) -> None:
    origin, target_store = with_people(open_by_name("sqlite")), open_by_name(kind, "b")
    interrupt_copy(origin, target_store)
    assert set(content(target_store)) == {"default", "north", CONTROL}
    assert [record.key for record in content(target_store)[CONTROL]["people"]] == []
    target_store.close()
    with pytest.raises(IncompleteCopyError, match="--restart"):
        open_store(url_in(tmp_path / "b", kind), ALL)
    again = open_by_name(kind, "b", allow_incomplete=True)
    with pytest.raises(IncompleteCopyError, match="--restart"):
        copy_store(origin, again)
    with origin.write("north") as transaction:
        transaction.delete("people", list(transaction.keys("people")))
        transaction.put("groups", [record("new")])
    copy_store(origin, again, restart=True)
    assert content(again) == content(origin)
    again.close()
    assert content(open_by_name(kind, "b")) == content(origin)


def test_control_tenant_is_copied_last(open_by_name: OpenByName) -> None:
    origin, target_store = with_people(open_by_name("json")), open_by_name("sqlite", "b")
    visible_counts = []

    class ObservedStore(UnreadableControlStore):
        def read(self, tenant: str) -> object:
            with (
                target_store.read("default") as at,
                target_store.read("north") as north,
                target_store.read(CONTROL) as control,
            ):
                visible_counts.append([len(list(snapshot.keys("people"))) for snapshot in (at, north, control)])
            return self._store.read(tenant)

    copy_store(ObservedStore(origin), target_store)  # type: ignore[arg-type]  # as above
    assert visible_counts == [[0, 0, 0], [60, 0, 0], [60, 60, 0]]


def test_copy_stops_after_another_copy_took_over_the_target(open_by_name: OpenByName) -> None:
    origin, other, target_store = (
        with_people(open_by_name("json")),
        open_by_name("json", "c"),
        open_by_name("sqlite", "b"),
    )
    fill(other, "people", [record("other")], "default")

    class OverwrittenStore(UnreadableControlStore):
        def read(self, tenant: str) -> object:
            if tenant == "north":
                copy_store(other, target_store, restart=True)
            return self._store.read(tenant)

    with pytest.raises(StorageBusyError, match="another copy"):
        copy_store(OverwrittenStore(origin), target_store)  # type: ignore[arg-type]  # as above
    assert content(target_store) == content(other)


@pytest.mark.parametrize("kind", ["sqlite", "tenant locks"])
def test_copy_shows_one_point_in_time_and_blocks_writers(kind: str, open_by_name: OpenByName) -> None:
    origin, target_store, started = with_people(open_by_name(kind)), open_by_name("json", "b"), Event()
    before = content(origin)

    def write(_: int) -> None:
        started.wait()
        fill(origin, "people", [record("late")], "north")

    class SignalingStore(UnreadableControlStore):
        def read(self, tenant: str) -> object:
            started.set()
            return self._store.read(tenant)

    with ThreadPoolExecutor(1) as other_thread:
        write_result = other_thread.submit(write, 0)
        copy_store(SignalingStore(origin), target_store)  # type: ignore[arg-type]  # as above
        write_result.result(timeout=60)
    assert content(target_store) == before != content(origin)


@pytest.mark.parametrize("kind", ["sqlite", "tenant locks"])
def test_copy_that_took_over_waits_for_the_tenant_in_progress(
    kind: str, open_by_name: OpenByName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.copy._PROGRESS_INTERVAL_RECORDS", 1)
    origin, other, target_store = with_people(open_by_name("json")), open_by_name("json", "c"), open_by_name(kind, "b")
    fill(other, "people", [record("other")], "default")
    other_copies: list[Future[object]] = []

    class WaitingStore(UnreadableControlStore):
        def read(self, tenant: str) -> object:
            if tenant == "north":
                other_copies[0].result(timeout=60)
            return self._store.read(tenant)

    with ThreadPoolExecutor(1) as other_thread:

        def start_other_copy(_collection: str, _done: int, _total: int | None) -> None:
            if not other_copies:
                other_copies.append(other_thread.submit(copy_store, other, target_store, restart=True))
                with pytest.raises(TimeoutError):
                    other_copies[0].result(timeout=0.1)

        with pytest.raises(StorageBusyError, match="another copy"):
            copy_store(WaitingStore(origin), target_store, on_progress=start_other_copy)  # type: ignore[arg-type]  # as above
    assert content(target_store) == content(other)


def test_damaged_store_can_be_opened_but_not_read(tmp_path: Path, open_by_name: OpenByName) -> None:
    with_people(open_by_name("json")).close()
    url = url_in(tmp_path / "a", "json")
    (live,) = Path(url.removeprefix("json:///")).glob("_control/current.json")
    live.write_text("[]")
    with open_store(url, ALL) as store:
        assert len(store.check()) == 1
        with pytest.raises(StorageUnavailableError):
            store.read(CONTROL)


KILLED_COPY = """
import os, signal, sys
import backends.copy
from backends import COPY_MARKER, copy_store, open_store
from backends.testing import COLLECTIONS
backends.copy._PROGRESS_INTERVAL_RECORDS = 1
remaining = int(sys.argv[3])
def kill(*_):
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
source, target = (open_store(url, (*COLLECTIONS, COPY_MARKER), allow_incomplete=True) for url in sys.argv[1:3])
copy_store(source, target, restart=True, on_progress=kill)
"""


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_killed_copy_is_incomplete_and_can_be_restarted(kind: str, open_by_name: OpenByName, tmp_path: Path) -> None:
    source = with_people(open_by_name("sqlite"))
    expected = content(source)
    total = sum(len(records) for tenant_content in expected.values() for records in tenant_content.values())
    urls = [url_in(tmp_path / "a", "sqlite"), url_in(tmp_path / "b", kind)]
    for position in [1, total, *random.Random(7).sample(range(2, total), 4), total + 1]:
        command = [sys.executable, "-c", KILLED_COPY, *urls, str(position)]
        process = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
        if position <= total:
            assert process.returncode == -signal.SIGKILL
            with pytest.raises(IncompleteCopyError):
                open_store(urls[1], ALL)
    assert content(open_by_name(kind, "b")) == content(source) == expected
