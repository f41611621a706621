"""Creation of a backup while the service runs.

Under the write lock of the store, the read transaction of the copy begins, and the files of the folder `data` get
second names. The rest happens without a lock. Held packages are therefore exactly those that the copied store knows.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from backends import CONTROL, Backend, StorageError, StorageUnavailableError, backend_class, file_path
from chalk_flask import __version__
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.backup.archive import Output, SourceFile, describe_file, write_archive
from chalk_flask.backup.data_files import DataFolder
from chalk_flask.backup.errors import BackupError
from chalk_flask.backup.manifest import Manifest
from chalk_flask.files import create_private_file, make_folder, make_private_folder
from chalk_flask.settings import Settings
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_timestamp, utc_now

__all__ = ["BackupResult", "create_backup", "url_of"]

log = logging.getLogger(__name__)

STAGING_NAME = ".backup"
"""Name of the folder in `data` for the copies of a backup in progress."""

LOCK_TIMEOUT_SECONDS = 600.0
"""Time to wait for a writer. An import of a large package may write for minutes."""

EVENT_TIMEOUT_SECONDS = 10.0
"""Maximum time to wait for another writer before the audit event is dropped."""

MIN_FREE_BYTES = 64 << 20
"""Disk space that a backup leaves free, so that the store can be written."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """Result of a backup: its manifest, the size of the archive in bytes, and whether it is encrypted."""

    manifest: Manifest
    size: int
    is_encrypted: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            **self.manifest.to_dict(),
            "files": len(self.manifest.files),
            "bytes": self.size,
            "encrypted": self.is_encrypted,
        }


@dataclass(slots=True)
class _CountingWriter:
    """Stream that counts the bytes that are written to another one."""

    out: Output
    size: int = 0

    def write(self, data: bytes, /) -> int:
        self.size += len(data)
        return self.out.write(data)

    def flush(self) -> None:
        self.out.flush()


def create_backup(
    store: Backend,
    settings: Settings,
    open_output: Callable[[], AbstractContextManager[Output]],
    *,
    passphrase: str | None = None,
    requested_by: str,
    owners: set[int] | None = None,
) -> BackupResult:
    """Write an archive of the open store and its folder `data`, and record the audit event.

    `open_output` returns a context manager with the stream. Its end must complete the file. `requested_by` is the user
    whom the audit event names. `owners` gets the ids of the users to whom the archived files belong, before that end.
    Raises BackupError, StorageError and OSError.
    """
    data = DataFolder.of(settings)
    with _staging_folder(data.path) as staging:
        manifest, sources = _copy(store, settings, data, staging)
        with open_output() as out:
            counted = _CountingWriter(out)
            write_archive(counted, manifest, sources, passphrase, owners)
    result = BackupResult(manifest, counted.size, passphrase is not None)
    _record_created(store, result, requested_by)
    return result


def _record_created(store: Backend, result: BackupResult, requested_by: str) -> None:
    """Record the audit event of a complete archive. An error is logged, because the archive can be used anyway."""
    backup = result.manifest.id
    members: dict[str, AuditValue] = {"backup": backup, "bytes": result.size, "encrypted": result.is_encrypted}
    try:
        with store.write(CONTROL, wait=EVENT_TIMEOUT_SECONDS) as control:
            record_event(control, CONTROL, "backup.created", None, by=requested_by, **members)
    except StorageError as error:
        reason = error if isinstance(error, StorageUnavailableError) else type(error).__name__
        log.error("the audit event backup.created of the backup %s was not stored: %s", backup, reason)


def url_of(settings: Settings, path: Path) -> str:
    """Return the storage URL of another store of the configured backend."""
    return f"{settings.storage.partition(':')[0]}:///{quote(str(path))}"


@contextmanager
def _staging_folder(data: Path) -> Iterator[Path]:
    """Yield an empty folder in `data`, and delete it at the end. Deletes what a killed backup has left behind."""
    make_private_folder(data)
    folder = data / STAGING_NAME
    create_private_file(data / f"{STAGING_NAME}.lock")
    lock = FileLock(data / f"{STAGING_NAME}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise BackupError("another backup of this store is in progress: try again when it has ended") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)  # so that the service can delete what a killed backup of root has left behind
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _copy(store: Backend, settings: Settings, data: DataFolder, staging: Path) -> tuple[Manifest, list[SourceFile]]:
    """Copy the store and pin the files of the folder `data`."""
    _check_space(settings, staging)
    store_copy, data_copy = staging / "store", staging / "data"
    for folder in (store_copy, data_copy):
        make_folder(folder)
    pinned: list[SourceFile] = []
    created = []

    def on_pinned() -> None:
        created.append(format_timestamp(utc_now()))
        pinned.extend(data.pin(data_copy))

    store.back_up(store_copy, on_pinned, LOCK_TIMEOUT_SECONDS)
    _check_copy(settings, type(store).backed_up_store(store_copy))
    sources = [*_store_sources(store_copy, staging), *pinned]
    manifest = Manifest(
        secrets.token_hex(16),
        created[0],
        __version__,
        settings.storage.partition(":")[0].lower(),
        store.schema_version,
        store.store_id,
        [describe_file(source) for source in sources],
    )
    return manifest, sources


def _store_sources(folder: Path, staging: Path) -> list[SourceFile]:
    """Return the files of the copied store, without those that the check of the copy has left."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        SourceFile(path.relative_to(staging).as_posix(), path, path.stat().st_size)
        for path in paths
        if not path.name.startswith(".") and not path.name.endswith((".lock", "-wal", "-shm"))
    ]


def _check_space(settings: Settings, staging: Path) -> None:
    """Raise BackupError if the copy of the store would leave too little free space."""
    files = backend_class(settings.storage).store_files(file_path(settings.storage))
    required = sum(path.stat().st_size for path in files if path.is_file()) + MIN_FREE_BYTES
    if (free := shutil.disk_usage(staging).free) < required:
        raise BackupError(
            f"the backup needs {required >> 20} MiB of free space in {staging.parent} for a copy of the store, but only"
            f" {free >> 20} MiB are free: free space, or name a folder on another disk with --data"
        )


def _check_copy(settings: Settings, path: Path) -> None:
    """Raise BackupError if the copied store is damaged, so that no damaged backup replaces a good one."""
    try:
        with backend_class(settings.storage).open(url_of(settings, path), COLLECTIONS) as copy:
            problems = copy.check()
    except StorageUnavailableError as error:
        problems = [str(error)]
    if problems:
        raise BackupError(f"no backup was written, because the store is damaged: {problems[0]}")
