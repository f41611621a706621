"""Lock of all processes on a file of a store."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import StorageBusyError, StorageUnavailableError
from backends.files.lock_file import LockFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def lock(folder: Path) -> LockFile:
    return LockFile(folder / ".lock", folder)


def test_second_lock_waits_for_the_first(folder: Path, lock: LockFile) -> None:
    lock.acquire(0)
    assert (folder / ".lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageBusyError, match=r"for more than 0\.01 seconds"):
        LockFile(folder / ".lock", folder).acquire(0.01)
    lock.release()
    second = LockFile(folder / ".lock", folder)
    second.acquire(0)
    second.release()


def test_folder_that_vanishes_while_a_lock_waits_is_not_created_again(folder: Path, lock: LockFile) -> None:
    lock.acquire(0)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(LockFile(folder / ".lock", folder).acquire, 60)
        time.sleep(0.1)  # It usually waits for the lock then. If it does not, the expectation is the same.
        folder.rename(folder.with_name("moved"))
        lock.release()
        with pytest.raises(StorageUnavailableError, match=r"cannot use the lock file .*No such file"):
            waiting.result()
    assert not folder.exists()


def test_lock_on_a_deleted_file_does_not_keep_others_off_the_new_one(folder: Path, lock: LockFile) -> None:
    lock.acquire(0)
    (folder / ".lock").unlink()
    second = LockFile(folder / ".lock", folder)
    second.acquire(0)
    with pytest.raises(StorageBusyError):
        LockFile(folder / ".lock", folder).acquire(0)
    second.release()
    lock.release()


def test_release_unlocks_the_file_for_forked_processes_too(folder: Path, lock: LockFile) -> None:
    lock.acquire(0)
    assert lock._descriptor is not None
    copy = os.dup(lock._descriptor)  # as a forked process has it
    lock.release()
    second = LockFile(folder / ".lock", folder)
    second.acquire(0)
    second.release()
    os.close(copy)


def test_link_in_place_of_the_lock_file_is_an_error(folder: Path, lock: LockFile, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (folder / ".lock").symlink_to(tmp_path / "other")
    with pytest.raises(StorageUnavailableError, match="cannot use the lock file"):
        lock.acquire(0)
    assert (tmp_path / "other").read_text() == "kept"
