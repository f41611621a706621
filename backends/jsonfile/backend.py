"""Storage in a folder of readable JSON files: `json:///relative/dir` or `json:////absolute/dir`.

    <dir>/.lock                          write lock; readers do not take it
    <dir>/<tenant>/current.json          names the live files and the revision; its replacement is the commit
    <dir>/<tenant>/<collection>.<n>.json JSON array in key order, one record per line; a live file never changes

A commit writes new files for the changed collections, then replaces `current.json`, then deletes the unused files.
If the process is killed, the folder contains the old or the new state. The next commit deletes any unused files.
All records are loaded into memory, so this backend suits up to about 10,000 users.
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
from backends.jsonfile.tenant_folder import CURRENT_FILE, Folder, LoadedState
from backends.memory.backend import TableSnapshot, TableTransaction
from backends.memory.evaluator import TenantTables

__all__ = ["JSONFileBackend"]


class JSONFileBackend(Backend):
    """Backend with tables in memory. A commit writes them to files; files of other processes are reloaded."""

    durable = True
    shared = True

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {c.name: c for c in collections}
        self._path = path
        self._loaded: dict[str, LoadedState] = {}
        self._load_lock = threading.Lock()
        self._thread_lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the folder; create it if it is missing.

        Raises InvalidStorageURLError or StorageUnavailableError.
        """
        path = file_path(url).absolute()
        with _os_errors(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path, collections)

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return True if the folder contains a tenant's `current.json`.

        Raises InvalidStorageURLError or StorageUnavailableError.
        """
        path = file_path(url)
        if path.exists() and not path.is_dir():
            raise InvalidStorageURLError(f"{path} is a file, not a folder: name a folder, or use sqlite:/// for a file")
        with _os_errors(path):
            return any(path.glob(f"*/{CURRENT_FILE}"))

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        """Return a snapshot, after reloading the tables that another process has changed."""
        return TableSnapshot(self.collections, self._latest(tenant).state, query_seconds)

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the write lock of all threads and processes. Raises StorageBusyError after `wait` seconds."""
        release = self._lock(max(wait, 0))
        try:
            current = self._latest(tenant)

            def commit(state: TenantTables, written: set[str]) -> None:
                with _os_errors(self._folder(tenant).path):
                    self._loaded[tenant] = self._folder(tenant).save(current, state, written)

            return TableTransaction(self.collections, current.state, commit, release)
        except BaseException:
            release()
            raise

    def tenants(self) -> list[str]:
        """Return the names of all tenants with a `current.json`."""
        return sorted(tenant_name(folder.name) for folder in self._folders())

    def version(self, tenant: str) -> object:
        """Return inode, modification time and size of `current.json`, which every commit replaces."""
        self._check_open()
        folder = self._folder(tenant)
        with _os_errors(folder.path):
            return folder.version()

    def check(self) -> list[str]:
        """Read every file of every tenant and return the damage found."""
        return [problem for folder in self._folders() for problem in Folder(folder).problems()]

    def close(self) -> None:
        """Release the loaded tables."""
        self._closed = True
        self._loaded.clear()

    def _latest(self, tenant: str) -> LoadedState:
        self._check_open()
        folder = self._folder(tenant)
        with self._load_lock, _os_errors(folder.path):
            latest = self._loaded[tenant] = folder.load(self._loaded.get(tenant, LoadedState()))
            return latest

    def _folders(self) -> list[Path]:
        self._check_open()
        with _os_errors(self._path):
            return sorted(path.parent for path in self._path.glob(f"*/{CURRENT_FILE}"))

    def _folder(self, tenant: str) -> Folder:
        return Folder(self._path / folder_name(tenant))

    def _lock(self, wait: float) -> Callable[[], None]:
        """Take the thread and process locks within `wait` seconds in total; return a function that releases both."""
        self._check_open()
        deadline = time.monotonic() + wait
        if not self._thread_lock.acquire(timeout=wait):
            raise _busy(wait)
        # A new lock object each time: one that was created before a fork does not work after it.
        lock = FileLock(self._path / ".lock", mode=0o600, thread_local=False)
        try:
            with _os_errors(self._path / ".lock"):
                lock.acquire(timeout=max(deadline - time.monotonic(), 0), poll_interval=0.005)
        except Timeout:
            self._thread_lock.release()
            raise _busy(wait) from None
        except BaseException:
            self._thread_lock.release()
            raise

        def release() -> None:
            try:
                lock.release()
            finally:
                self._thread_lock.release()

        return release

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")


def folder_name(tenant: str) -> str:
    """Return the name of a tenant's folder; `%` for the empty tenant name.

    All bytes except lowercase letters, digits, `-` and `_` are percent-encoded. So two tenants never share a folder on
    a file system that ignores case, and a name cannot leave the folder of the store. Raises InvalidQueryError for a
    name that cannot be encoded as UTF-8.
    """
    check_text(tenant)
    unquoted = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(chr(byte) if byte in unquoted else f"%{byte:02X}" for byte in tenant.encode()) or "%"


def tenant_name(folder: str) -> str:
    """Return the tenant of a folder name, the inverse of `folder_name`. Raises StorageUnavailableError."""
    try:
        name = "" if folder == "%" else unquote(folder, errors="strict")
        if folder_name(name) == folder:
            return name
    except UnicodeDecodeError:
        pass
    raise StorageUnavailableError(
        f"{folder!r} is not a valid name of a tenant's folder: rename it, or move it elsewhere"
    )


def _busy(wait: float) -> StorageBusyError:
    return StorageBusyError(f"another writer locked the store for more than {wait:g} seconds: try again")


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Convert OSError into a StorageUnavailableError that names the file."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise StorageUnavailableError(f"{error.filename or path}: {error.strerror or error}") from error
