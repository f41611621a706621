"""Storage in a folder of JSON files that a person can read and diff: `json:///relative/dir`, `json:////absolute/dir`.

    <dir>/.lock                          held while somebody writes, never while somebody reads
    <dir>/<tenant>/current.json          names the live files and the revision; replacing it is the commit
    <dir>/<tenant>/<collection>.<n>.json a JSON array in key order, a record a line; never changed once it is named

A commit writes new files for the collections it changed, then replaces `current.json`, then removes what is no longer
named. Whoever is killed in between leaves the old or the new state, and at most strays that the next commit removes.
Every record is held in memory: meant for about 10,000 users.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from filelock import FileLock, Timeout

from backends.base import (
    Backend,
    Collection,
    InvalidStorageURLError,
    Snapshot,
    StorageBusyError,
    StorageUnavailableError,
    Transaction,
    check_text,
    file_path,
)
from backends.jsonfile.folder import CURRENT_FILE, Folder, LoadedState
from backends.memory.backend import TableSnapshot, TableTransaction
from backends.memory.evaluator import State

__all__ = ["JSONFileBackend"]


class JSONFileBackend(Backend):
    """Tables in memory, written through to files; other processes' commits are noticed by their `current.json`."""

    durable = True
    shared = True

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {c.name: c for c in collections}
        self._path = path
        self._seen: dict[str, LoadedState] = {}
        self._loading = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the folder, made when it is missing. Raises InvalidStorageURLError or StorageUnavailableError."""
        path = file_path(url).absolute()
        with _failing(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path, collections)

    @classmethod
    def exists(cls, url: str) -> bool:
        """Whether some tenant's `current.json` is in the folder. Raises InvalidStorageURLError or StorageUnavailableError."""
        path = file_path(url)
        if path.exists() and not path.is_dir():
            raise InvalidStorageURLError(
                f"{path} is a file, not a folder: name another folder, or use sqlite:/// for a file"
            )
        with _failing(path):
            return any(path.glob(f"*/{CURRENT_FILE}"))

    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        """The tenant's tables, read again as far as another process has committed since."""
        return TableSnapshot(self.collections, self._latest(tenant).state)

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Start to write, alone among all threads and processes. Raises StorageBusyError after `wait` seconds."""
        release = self._lock(max(wait, 0))
        try:
            saved = self._latest(tenant)

            def commit(state: State, touched: set[str]) -> None:
                with _failing(self._folder(tenant).path):
                    self._seen[tenant] = self._folder(tenant).save(saved, state, touched)

            return TableTransaction(self.collections, saved.state, commit, release)
        except BaseException:
            release()
            raise

    def tenants(self) -> list[str]:
        """Everybody who has a `current.json`."""
        return sorted(tenant_name(folder.name) for folder in self._folders())

    def version(self, tenant: str) -> object:
        """What the file system says of `current.json`: every commit replaces it."""
        self._check_open()
        folder = self._folder(tenant)
        with _failing(folder.path):
            return folder.version()

    def check(self) -> list[str]:
        """Read every file of every tenant."""
        return [sentence for folder in self._folders() for sentence in Folder(folder).problems()]

    def close(self) -> None:
        """Forget what was read."""
        self._closed = True
        self._seen.clear()

    def _latest(self, tenant: str) -> LoadedState:
        self._check_open()
        folder = self._folder(tenant)
        with self._loading, _failing(folder.path):
            saved = self._seen[tenant] = folder.load(self._seen.get(tenant, LoadedState()))
            return saved

    def _folders(self) -> list[Path]:
        self._check_open()
        with _failing(self._path):
            return sorted(live.parent for live in self._path.glob(f"*/{CURRENT_FILE}"))

    def _folder(self, tenant: str) -> Folder:
        return Folder(self._path / folder_name(tenant))

    def _lock(self, wait: float) -> Callable[[], None]:
        """The thread lock, then the process lock, within `wait` seconds for both; the function that lets go of them."""
        self._check_open()
        deadline = time.monotonic() + wait
        if not self._writing.acquire(timeout=wait):
            raise _busy(wait)
        # A lock object of one's own each time: one that was made before a fork is of no use after it.
        lock = FileLock(self._path / ".lock", mode=0o600, thread_local=False)
        try:
            with _failing(self._path / ".lock"):
                lock.acquire(timeout=max(deadline - time.monotonic(), 0), poll_interval=0.005)
        except Timeout:
            self._writing.release()
            raise _busy(wait) from None
        except BaseException:
            self._writing.release()
            raise

        def release() -> None:
            try:
                lock.release()
            finally:
                self._writing.release()

        return release

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")


def folder_name(tenant: str) -> str:
    """The tenant's folder: percent-quoted but for small letters, digits, `-` and `_`, so that no two tenants meet in
    one folder where the file system ignores case, and none leads elsewhere; `%` for the empty name. Raises InvalidQueryError for
    a name that has no UTF-8 form."""
    check_text(tenant)
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in tenant.encode()) or "%"


def tenant_name(folder: str) -> str:
    """The tenant whose folder has this name. Raises StorageUnavailableError for a name that is none of ours."""
    try:
        name = "" if folder == "%" else unquote(folder, errors="strict")
        if folder_name(name) == folder:
            return name
    except UnicodeDecodeError:
        pass
    raise StorageUnavailableError(f"{folder!r} is not the name of a tenant's folder: rename it or move it elsewhere")


def _busy(wait: float) -> StorageBusyError:
    return StorageBusyError(f"another writer held the store for more than {wait:g} seconds; try again")


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    """The system's errors as StorageUnavailableError that names the file."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise StorageUnavailableError(f"{error.filename or path}: {error.strerror or error}") from error
