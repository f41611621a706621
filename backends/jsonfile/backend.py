"""Storage in a folder of readable JSON files: `json:///relative/dir` or `json:////absolute/dir`.

    <dir>/.lock                          write lock; readers do not take it
    <dir>/.open                          shared lock of each process that has the store open
    <dir>/store.json                     schema version, store id and tenants
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
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from backends.base import (
    Backend,
    Collection,
    DamagedStoreError,
    InvalidStorageURLError,
    NewerStoreError,
    Snapshot,
    StorageBusyError,
    StorageUnavailableError,
    Transaction,
    check_text,
    file_path,
)
from backends.files.lock_file import LockFile
from backends.files.private_files import make_folder
from backends.jsonfile.file_copies import link_or_copy
from backends.jsonfile.open_mark import OpenMark, exclusive_lock
from backends.jsonfile.store_description import SCHEMA_VERSION, STORE_FILE, StoreFile
from backends.jsonfile.tenant_folder import CURRENT_FILE, Folder, LoadedState
from backends.memory.backend import TableSnapshot, TableTransaction
from backends.memory.evaluator import TenantTables
from backends.os_errors import storage_error

__all__ = ["JSONFileBackend"]

_OPEN_LOCK_TIMEOUT_SECONDS = 60.0


class JSONFileBackend(Backend):
    """Backend with tables in memory. A commit writes them to files; files of other processes are reloaded."""

    durable = True
    shared = True
    schema_version = SCHEMA_VERSION

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {c.name: c for c in collections}
        self._path = path
        self._loaded: dict[str, LoadedState] = {}
        self._description: StoreFile | None = None
        self._known_tenants: set[str] = set()
        self._load_lock = threading.Lock()
        self._thread_lock = threading.Lock()
        self._open_mark = OpenMark(path)
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the folder; create it if it is missing.

        Raises InvalidStorageURLError and StorageUnavailableError. Raises DamagedStoreError if a tenant has data files,
        but no `current.json`.
        """
        path = file_path(url).absolute()
        store = cls(path, collections)
        with _os_errors(path):
            make_folder(path)
            store._open_mark.set()
            description = StoreFile.read(path)
            if description is None and not _tenant_folders(path):
                with _release_at_end(store._lock(_OPEN_LOCK_TIMEOUT_SECONDS)):
                    description = StoreFile.read(path)
                    if description is None:
                        description = StoreFile()
                        description.write(path)
            store._set_description(description)
            store._check_tenants()
        return store

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return True if the folder contains `store.json`, or a tenant's `current.json` or data file.

        Raises InvalidStorageURLError or StorageUnavailableError.
        """
        path = file_path(url)
        if path.exists() and not path.is_dir():
            raise InvalidStorageURLError(f"{path} is a file, not a folder: name a folder, or use sqlite:/// for a file")
        with _os_errors(path):
            return path.is_dir() and ((path / STORE_FILE).exists() or bool(_tenant_folders(path)))

    @classmethod
    def repair(cls, url: str, collections: Iterable[Collection]) -> list[str]:
        """Write missing or invalid `current.json` and `store.json` files, and rebuild the values of all records."""
        path = file_path(url).absolute()
        store = cls(path, collections)
        with _os_errors(path), _release_at_end(store._lock(_OPEN_LOCK_TIMEOUT_SECONDS)):
            repaired = store._restore_files()
        return repaired + super().repair(url, store.collections.values())

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
                self._add_tenant(tenant)

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
            version = folder.version()
        if version is None:
            self._check_not_vanished(tenant)
        return version

    def check(self) -> list[str]:
        """Read every file of every tenant and return the damage found."""
        return [problem for folder in self._folders() for problem in Folder(folder).problems()]

    def back_up(self, folder: Path, on_pinned: Callable[[], None], wait: float = 60.0) -> None:
        """Link or copy the live files under the write lock. A live file never changes."""
        with _release_at_end(self._lock(wait)), _os_errors(self._path):
            if (self._path / STORE_FILE).exists():
                link_or_copy(self._path / STORE_FILE, folder / STORE_FILE)
            for tenant_folder in self._folders():
                Folder(tenant_folder).copy_live_files(folder / tenant_folder.name)
            on_pinned()

    @classmethod
    def backed_up_store(cls, folder: Path) -> Path:
        """Return the folder of a backup, which is a store."""
        return folder

    @classmethod
    def lock_exclusively(cls, path: Path) -> AbstractContextManager[None]:
        """Return a context manager that holds the file `.open` exclusively."""
        return exclusive_lock(path)

    def close(self) -> None:
        """Release the loaded tables."""
        self._closed = True
        self._open_mark.clear()
        self._loaded.clear()

    def _latest(self, tenant: str) -> LoadedState:
        self._check_open()
        folder = self._folder(tenant)
        with self._load_lock, _os_errors(folder.path):
            latest = folder.load(self._loaded.get(tenant, LoadedState()))
            if latest.version is None:
                self._check_not_vanished(tenant)
            else:
                self._known_tenants.add(tenant)
            self._loaded[tenant] = latest
            return latest

    def _check_not_vanished(self, tenant: str) -> None:
        """Raise StorageUnavailableError if the files of the tenant, or the whole store, have vanished."""
        if tenant in self._known_tenants or not self._path.is_dir():
            path = self._folder(tenant).path / CURRENT_FILE
            raise StorageUnavailableError(f"{path} is missing: put it back, or stop the service and restore a backup")

    def _set_description(self, description: StoreFile | None) -> None:
        self._description = description
        if description is not None:
            self.store_id = description.store_id
            self._known_tenants.update(description.tenants)

    def _add_tenant(self, tenant: str) -> None:
        """List a tenant in `store.json` after a commit. An error only postpones this to the next commit."""
        if self._description is not None and tenant in self._description.tenants:
            return
        with suppress(OSError, StorageUnavailableError):
            description = (StoreFile.read(self._path) or StoreFile()).with_tenants([*self.tenants(), tenant])
            description.write(self._path)
            self._set_description(description)

    def _check_tenants(self) -> None:
        """Raise DamagedStoreError if the `current.json` of a tenant is missing.

        In a store without description, every folder with data files belongs to a tenant. In others, such a folder that
        is not listed is from the first commit of a tenant, which did not finish.
        """
        folders = {folder.name for folder in _tenant_folders(self._path)}
        listed = self._description.tenants if self._description else frozenset(map(tenant_name, folders))
        for tenant in sorted(listed):
            folder = self._folder(tenant)
            if not folder.has_current_file():
                raise DamagedStoreError(
                    f"{folder.path / CURRENT_FILE} is missing, which names the files of tenant {tenant!r}: put it back,"
                    " or stop the service, make a copy of the store, and run `chalk-flask check --repair`"
                )

    def _restore_files(self) -> list[str]:
        repaired = []
        for path in _tenant_folders(self._path):
            if names := Folder(path).restore_current_file():
                repaired.append(f"wrote {path / CURRENT_FILE}, which names {', '.join(names)}")
        try:
            description = StoreFile.read(self._path)
        except NewerStoreError:
            raise
        except DamagedStoreError:
            description = None
            repaired.append(f"wrote {self._path / STORE_FILE} with a new store id")
        tenants = [tenant_name(path.name) for path in _tenant_folders(self._path)]
        if description is None:
            StoreFile().with_tenants(tenants).write(self._path)
        elif lost := sorted(description.tenants.difference(tenants)):
            raise DamagedStoreError(
                f"the records of tenant {lost[0]!r} are lost: restore the folder from a backup, or remove the name from"
                f" {self._path / STORE_FILE}"
            )
        return repaired

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
        lock = LockFile(self._path / ".lock", self._path)
        try:
            lock.acquire(max(deadline - time.monotonic(), 0))
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


@contextmanager
def _release_at_end(release: Callable[[], None]) -> Iterator[None]:
    """Call `release` at the end of a `with` block."""
    try:
        yield
    finally:
        release()


def _tenant_folders(path: Path) -> list[Path]:
    """Return the folders in a store that have a `current.json` or a data file, sorted."""
    folders = (Folder(entry) for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else ()
    return sorted(folder.path for folder in folders if folder.has_current_file() or folder.has_data())


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
    except OSError as error:
        raise storage_error(error, path) from error
