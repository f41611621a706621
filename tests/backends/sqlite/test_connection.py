"""Failures of the disk and of the lock file, with real files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import (
    Backend,
    Collection,
    Record,
    StorageFullError,
    StorageUnavailableError,
    open_store,
)
from backends.sqlite.transaction import SQLiteTransaction
from tests.support.paths import open_files_below
from tests.support.storage.failures import file_size_limit, public_folder, without_root

NOTES = Collection("notes")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Backend]:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [NOTES]) as store:
        put(store, "kept")
        yield store


def put(store: Backend, key: str, size: int = 0) -> None:
    with store.write("a") as transaction:
        transaction.put("notes", [Record(key, b'"%s"' % (b"x" * size))])


def keys(store: Backend) -> list[str]:
    with store.read("a") as snapshot:
        return list(snapshot.keys("notes"))


def test_full_database_raises_storage_full_error(store: Backend) -> None:
    with store.write("a") as transaction:
        assert isinstance(transaction, SQLiteTransaction)
        transaction._open().execute("PRAGMA max_page_count = 1")  # SQLite then keeps the present size
        with pytest.raises(StorageFullError, match="writing notes: the disk is full"):
            transaction.put("notes", [Record("large", b'"%s"' % (b"x" * 1_000_000))])
        transaction.close()
    assert keys(store) == ["kept"]


def test_write_beyond_a_limit_fails_with_the_cause_and_reads_go_on(store: Backend) -> None:
    with file_size_limit(40_000):
        with pytest.raises(StorageUnavailableError, match=r"SQLITE_IOERR_WRITE.*quota or file size limit"):
            put(store, "large", 1_000_000)
        assert keys(store) == ["kept"]
    put(store, "later", 1_000_000)
    assert keys(store) == ["kept", "later"]


def test_read_only_file_is_named_as_the_cause_and_reads_go_on() -> None:
    with public_folder() as folder, open_store(f"sqlite:///{folder}/chalk.db", [NOTES]) as store:
        put(store, "kept")
        for path in folder.iterdir():
            path.chmod(0o666 if path.suffix == ".lock" else 0o444)
        with without_root():
            with pytest.raises(StorageUnavailableError, match="read-only"):
                put(store, "refused")
            assert keys(store) == ["kept"]


def test_folder_in_place_of_the_lock_file_is_named(store: Backend, tmp_path: Path) -> None:
    (tmp_path / "chalk.db.lock").unlink()
    (tmp_path / "chalk.db.lock").mkdir()
    with pytest.raises(StorageUnavailableError, match=r"cannot use the lock file .*chalk\.db\.lock"):
        put(store, "refused")
    assert keys(store) == ["kept"]


def test_lock_file_that_cannot_be_created_fails_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError, match=r"cannot use the lock file /proc/chalk\.db\.lock"):
        open_store("sqlite:////proc/chalk.db", [NOTES])
    assert time.monotonic() - started < 20  # the timeout of the lock is 60 seconds


def test_store_closes_its_connections_although_the_lock_file_is_unusable(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/chalk.db", [NOTES])
    put(store, "kept")
    assert keys(store) == ["kept"]
    (tmp_path / "chalk.db.lock").unlink()
    (tmp_path / "chalk.db.lock").mkdir()
    store.close()
    assert open_files_below(tmp_path) == []
