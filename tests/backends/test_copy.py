"""A store is copied whole, and a half copy is never taken for a whole one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from backends.testing.base import SimulatedFailure, fill, person, record
from backends.testing.property_based import ASKED, DATA, Data, answer, made
from tests.conftest import url_in
from tests.support.paths import ROOT

KINDS = ("json", "memory", "sqlite")
ALL = (*COLLECTIONS, COPY_MARKER)
TENANTS = ("default", "north", CONTROL)

Opened: TypeAlias = Callable[..., Backend]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens stores by kind and name, which are closed in the end."""
    stores: list[Backend] = []

    def store(kind: str, name: str = "a", *, unfinished: bool = False) -> Backend:
        stores.append(open_store(url_in(tmp_path / name, kind), ALL, allow_incomplete=unfinished))
        return stores[-1]

    yield store
    for each in stores:
        each.close()


def content(store: Backend) -> dict[str, dict[str, list[Record]]]:
    """All that a store holds."""
    held: dict[str, dict[str, list[Record]]] = {}
    for tenant in store.tenants():
        with store.read(tenant) as at:
            kept = {one.name: list(at.scan(one.name)) for one in ALL}
        if any(kept.values()):
            held[tenant] = kept
    return held


def peopled(store: Backend) -> Backend:
    """The store, with three tenants."""
    for number, tenant in enumerate(TENANTS):
        fill(store, "people", [person(each) for each in range(40 * number, 40 * number + 60)], tenant)
        fill(store, "notes", [record("n", state=tenant)], tenant)
    return store


@pytest.mark.parametrize(("source", "target"), [*permutations(KINDS, 2), *((kind, kind) for kind in KINDS)])
def test_a_copy_of_generated_tenants_answers_as_the_store_it_was_made_of(
    source: str, target: str, opened: Opened
) -> None:
    number = 0

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from([*TENANTS, "", "A/b", "ü\0"]), DATA, max_size=4), ASKED)
    def agree(world: dict[str, Data], queries: list[Query]) -> None:
        nonlocal number
        number += 1
        here, there = opened(source, f"from {number}"), opened(target, f"to {number}")
        for tenant, data in world.items():
            with here.write(tenant) as transaction:
                for name, records in data.items():
                    transaction.put(name, [made(key, held) for key, held in records.items()])
        counts = copy_store(here, there)
        assert content(there) == content(here)
        assert counts == {t: {n: len(r) for n, r in each.items() if r} for t, each in content(here).items()}
        assert there.check() == []
        for tenant in world:
            with here.read(tenant) as before, there.read(tenant) as after:
                assert [answer(after, query) for query in queries] == [answer(before, query) for query in queries]
                assert (after.revision > 0) == (before.revision > 0)

    agree()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("collection", "tenant"), [("people", "north"), ("notes", CONTROL), ("groups", "default")])
def test_a_store_that_holds_anything_is_left_as_it_is(kind: str, collection: str, tenant: str, opened: Opened) -> None:
    here, there = peopled(opened("sqlite")), opened(kind, "b")
    fill(there, collection, [record("theirs")], tenant)
    before = content(there)
    for restart in (False, True):
        with pytest.raises(StoreNotEmptyError, match=collection):
            copy_store(here, there, restart=restart)
    assert content(there) == before


def test_what_was_emptied_can_be_filled_and_its_revision_is_another(opened: Opened) -> None:
    here, there = peopled(opened("json")), opened("sqlite", "b")
    fill(there, "people", [record("gone")])
    with there.write("default") as transaction:
        transaction.delete("people", ["gone"])
    with there.read("default") as at:
        before = at.revision
    copy_store(here, there)
    with there.read("default") as at:
        assert at.revision > before
    assert content(there) == content(here)


class Broken:
    """A store whose last tenant cannot be read; who copies it fails when nearly everything is there."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self.write, self.tenants = store.write, store.tenants

    def read(self, tenant: str) -> object:
        if tenant == CONTROL:
            raise SimulatedFailure
        return self._store.read(tenant)


def stopped(source: Backend, target: Backend) -> None:
    """Leave a half copy."""
    with pytest.raises(SimulatedFailure):
        copy_store(Broken(source), target)  # type: ignore[arg-type]  # all of a Backend that a copy asks for


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_half_copy_is_opened_by_nobody_and_can_be_begun_anew(kind: str, opened: Opened, tmp_path: Path) -> None:
    here, there = peopled(opened("sqlite")), opened(kind, "b")
    stopped(here, there)
    assert set(content(there)) == {"default", "north", CONTROL}
    assert [each.key for each in content(there)[CONTROL]["people"]] == []
    there.close()
    with pytest.raises(IncompleteCopyError, match="--restart"):
        open_store(url_in(tmp_path / "b", kind), ALL)
    again = opened(kind, "b", unfinished=True)
    with pytest.raises(IncompleteCopyError, match="--restart"):
        copy_store(here, again)
    with here.write("north") as transaction:
        transaction.delete("people", list(transaction.keys("people")))
        transaction.put("groups", [record("new")])
    copy_store(here, again, restart=True)
    assert content(again) == content(here)
    again.close()
    assert content(opened(kind, "b")) == content(here)


def test_whoever_has_the_target_open_sees_the_last_tenant_only_once_all_is_there(opened: Opened) -> None:
    here, there = peopled(opened("json")), opened("sqlite", "b")
    seen = []

    class Watched(Broken):
        def read(self, tenant: str) -> object:
            with there.read("default") as at, there.read("north") as north, there.read(CONTROL) as control:
                seen.append([len(list(each.keys("people"))) for each in (at, north, control)])
            return self._store.read(tenant)

    copy_store(Watched(here), there)  # type: ignore[arg-type]  # as above
    assert seen == [[0, 0, 0], [60, 0, 0], [60, 60, 0]]


def test_a_copy_that_another_has_taken_over_ends_and_leaves_nothing(opened: Opened) -> None:
    here, other, there = peopled(opened("json")), opened("json", "c"), opened("sqlite", "b")
    fill(other, "people", [record("other")], "default")

    class Late(Broken):
        def read(self, tenant: str) -> object:
            if tenant == "north":
                copy_store(other, there, restart=True)
            return self._store.read(tenant)

    with pytest.raises(StorageBusyError, match="another copy"):
        copy_store(Late(here), there)  # type: ignore[arg-type]  # as above
    assert content(there) == content(other)


def test_a_copy_is_of_one_moment_and_writers_wait_for_its_end(opened: Opened) -> None:
    here, there, begun = peopled(opened("sqlite")), opened("json", "b"), Event()
    before = content(here)

    def write(_: int) -> None:
        begun.wait()
        fill(here, "people", [record("late")], "north")

    class Waiting(Broken):
        def read(self, tenant: str) -> object:
            begun.set()
            return self._store.read(tenant)

    with ThreadPoolExecutor(1) as elsewhere:
        late = elsewhere.submit(write, 0)
        copy_store(Waiting(here), there)  # type: ignore[arg-type]  # as above
        late.result(timeout=10)
    assert content(there) == before != content(here)


def test_a_store_that_cannot_be_read_opens_and_says_so_to_its_reader(tmp_path: Path, opened: Opened) -> None:
    peopled(opened("json")).close()
    url = url_in(tmp_path / "a", "json")
    (live,) = Path(url.removeprefix("json:///")).glob("_control/current.json")
    live.write_text("[]")
    with open_store(url, ALL) as store:
        assert len(store.check()) == 1
        with pytest.raises(StorageUnavailableError):
            store.read(CONTROL)


KILLED = """
import os, signal, sys
import backends.copy
from backends import COPY_MARKER, copy_store, open_store
from backends.testing import COLLECTIONS
backends.copy.STEP = 1
left = int(sys.argv[3])
def kill(collection, count):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
source, target = (open_store(url, (*COLLECTIONS, COPY_MARKER), unfinished=True) for url in sys.argv[1:3])
copy_store(source, target, restart=True, progress=kill)
"""


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_copy_that_is_killed_anywhere_is_known_for_a_half_and_begun_anew(
    kind: str, opened: Opened, tmp_path: Path
) -> None:
    source = peopled(opened("sqlite"))
    expected = content(source)
    total = sum(len(records) for each in expected.values() for records in each.values())
    urls = [url_in(tmp_path / "a", "sqlite"), url_in(tmp_path / "b", kind)]
    for moment in [1, total, *random.Random(7).sample(range(2, total), 4), total + 1]:
        command = [sys.executable, "-c", KILLED, *urls, str(moment)]
        ended = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
        if moment <= total:
            assert ended.returncode == -signal.SIGKILL
            with pytest.raises(IncompleteCopyError):
                open_store(urls[1], ALL)
    assert content(opened(kind, "b")) == content(source) == expected
