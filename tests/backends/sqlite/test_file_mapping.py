"""Memory map of a SQLite file, which immediate reads use: snapshots, other readers, and a file that is truncated."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from backends import Collection, Field, Record, StorageError, WaitRequired, immediate_reads
from backends.sqlite.backend import SQLiteBackend
from backends.sqlite.connection import disable_mapping

ITEMS = Collection("items", (Field("kind", "text", indexed=True),))
COUNT = 2000
KEYS = [f"k{n:04}" for n in range(0, COUNT, 50)]
"""Keys of records in all parts of the file."""

SECONDS = 60.0
MAPS = Path("/proc/self/maps")

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="the maps of a process are read from /proc of Linux")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteBackend]:
    monkeypatch.setattr("backends.sqlite.pool._MAX_IDLE_SECONDS", 60.0)  # a busy machine may stop a test for seconds
    with SQLiteBackend.open(f"sqlite:///{file}", [ITEMS]) as opened:
        put(opened, b'"old"')
        with opened.read("t"):
            pass  # opens the first connection
        yield opened


def put(store: SQLiteBackend, text: bytes) -> None:
    """Replace all records. Their bodies take about 800 KB, and are the same."""
    with store.write("t") as transaction:
        transaction.put("items", [Record(f"k{n:04}", text * 80, {"kind": f"{n % 9}"}) for n in range(COUNT)])


def map_count(file: Path) -> int:
    """Return the number of maps of the database. Those of its -shm file do not count."""
    return sum(line.endswith(f" {file}") for line in MAPS.read_text().splitlines())


def bodies(store: SQLiteBackend) -> set[bytes]:
    """Return the different bodies of the records of KEYS."""
    with store.read("t") as snapshot:
        return set(snapshot.get_many("items", KEYS).values())


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def read_in_thread(store: SQLiteBackend) -> None:
    in_thread(lambda: store.read("t").close())


def test_immediate_reads_map_the_file_once_and_others_do_not(store: SQLiteBackend, file: Path) -> None:
    assert bodies(store) == {b'"old"' * 80}
    assert map_count(file) == 0
    for _ in range(2):
        with immediate_reads(SECONDS):
            assert bodies(store) == {b'"old"' * 80}
    assert map_count(file) == 1
    with store.read("t"), store.read("t"), immediate_reads(SECONDS):
        assert bodies(store) == {b'"old"' * 80}, "other reads leave the mapped connection to immediate ones"
    assert map_count(file) == 1


def test_second_immediate_read_at_once_keeps_no_map(store: SQLiteBackend, file: Path) -> None:
    with store.read("t"), store.read("t"):
        pass  # opens two connections
    with immediate_reads(SECONDS), store.read("t") as one, store.read("t") as other:
        assert one.get_many("items", KEYS) == other.get_many("items", KEYS)
        assert map_count(file) == 2
    assert map_count(file) == 1


def test_map_shows_a_commit_after_a_thread_has_read(store: SQLiteBackend) -> None:
    with immediate_reads(SECONDS):
        assert bodies(store) == {b'"old"' * 80}
    put(store, b'"new"')
    with immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.read("t")
    read_in_thread(store)
    with immediate_reads(SECONDS):
        assert bodies(store) == {b'"new"' * 80}


def test_mapped_snapshot_stays_as_it_is_beside_commits_and_checkpoints(store: SQLiteBackend) -> None:
    with immediate_reads(SECONDS), store.read("t") as snapshot:
        for text in (b'"new"', b'"two"'):
            in_thread(partial(put, store, text))
            in_thread(store._checkpoint_when_idle)
        assert set(snapshot.get_many("items", KEYS).values()) == {b'"old"' * 80}
    read_in_thread(store)
    with immediate_reads(SECONDS):
        assert bodies(store) == {b'"two"' * 80}


def test_truncated_file_ends_no_process(store: SQLiteBackend, file: Path) -> None:
    put(store, b'"new"')
    store._checkpoint_when_idle()
    read_in_thread(store)
    with immediate_reads(SECONDS):
        assert bodies(store) == {b'"new"' * 80}
    os.truncate(file, file.stat().st_size // 2)
    with immediate_reads(SECONDS), pytest.raises(WaitRequired):
        bodies_of_version(store)
    with pytest.raises(StorageError):
        bodies(store)
    with immediate_reads(SECONDS), pytest.raises((StorageError, WaitRequired)):
        bodies_of_version(store)


def bodies_of_version(store: SQLiteBackend) -> None:
    """Read as a request does, which asks for the version first."""
    version = store.version("t")
    with store.read("t", at_least=version) as snapshot:
        snapshot.get_many("items", KEYS)


def test_disabled_mapping_closes_the_map_and_reads_go_on(
    store: SQLiteBackend, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with immediate_reads(SECONDS):
        assert bodies(store) == {b'"old"' * 80}
    monkeypatch.setattr("backends.sqlite.connection._is_disabled", bytearray(1))  # the real flag is not reset
    disable_mapping()
    with immediate_reads(SECONDS), pytest.raises(WaitRequired):
        store.read("t")
    read_in_thread(store)
    for _ in range(2):
        with immediate_reads(SECONDS):
            assert bodies(store) == {b'"old"' * 80}
    assert map_count(file) == 0
