"""Restore of a backup: a new store and folder `data` are completed beside the former ones, and replace them at once.

Until the replacement nothing has changed. If the process is killed during it, the next command that opens the store
completes it (`backends/files/replacement.py`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from backends import (
    CONTROL,
    Backend,
    BackupUnsupportedError,
    Move,
    StorageUnavailableError,
    backend_class,
    file_path,
    finish_restore,
    open_store,
    replace_files,
)
from chalk_flask.audit.events import record_event
from chalk_flask.backup.archive import ArchiveReader
from chalk_flask.backup.backup import MIN_FREE_BYTES, url_of
from chalk_flask.backup.data_files import DataFolder
from chalk_flask.backup.errors import ArchiveError, BackupError
from chalk_flask.backup.manifest import Manifest
from chalk_flask.files import make_private_folder, open_exclusive, sync_file, sync_folder
from chalk_flask.roster.changes.sequence import restart_sequence
from chalk_flask.settings import Settings
from chalk_flask.settings.data_folder import STORE_ID_FILE, StoreIdFile
from chalk_flask.settings.setting_type import without_passwords
from chalk_flask.storage import COLLECTIONS, check_readable
from chalk_flask.times import utc_now

__all__ = ["RestoreResult", "restore_backup", "verify_backup"]

STAGING_SUFFIX = "restoring"

_ASIDE_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """Result of a restore: manifest, places of store and folder `data`, and the new names of former ones."""

    manifest: Manifest
    store: Path
    data: Path
    moved_aside: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            **self.manifest.to_dict(),
            "store": str(self.store),
            "data": str(self.data),
            "movedAside": [str(path) for path in self.moved_aside],
        }


def verify_backup(reader: ArchiveReader) -> Manifest:
    """Read a whole archive and compare its checksums. Raises ArchiveError and OSError."""
    for file in reader.manifest.files:
        reader.copy_file(file, len)
    reader.finish()
    return reader.manifest


def restore_backup(
    open_archive: Callable[[], ArchiveReader],
    settings: Settings,
    *,
    replace: bool = False,
    requested_by: str,
    now: datetime | None = None,
) -> RestoreResult:
    """Restore an archive to the configured store and folder `data`. If an error is raised, nothing has changed.

    `open_archive` is called when the configured place is checked. With `replace`, an existing store and folder get
    other names first. Raises BackupError, StoreInUseError, other StorageErrors and OSError.
    """
    target = _Target.of(settings, replace)
    with ExitStack() as stack:
        stack.enter_context(target.lock())
        reader = open_archive()
        target.check_manifest(reader.manifest)
        staged = _Staging(*(stack.enter_context(_staging_folder(path)) for path in (target.store, target.data)))
        staged.extract(reader, target)
        store_id = _prepare_store(target, staged, reader.manifest, requested_by)
        staged.write_store_id(store_id, target)
        staged.give_to(target.owner())
        if not replace:
            target.check_free()
        moves = target.moves(staged, now or utc_now())
        replace_files(target.store, moves)
    moved_aside = tuple(move.target for move in moves if move.is_aside)
    return RestoreResult(reader.manifest, target.store, target.data, moved_aside)


@dataclass(frozen=True)
class _Target:
    """Place of the store and the folder `data` after the restore. Both paths are free of links."""

    settings: Settings
    backend: type[Backend]
    store: Path
    data: Path
    data_folder: DataFolder

    @classmethod
    def of(cls, settings: Settings, replace: bool) -> _Target:
        """Return the configured place. Raises BackupError if something is in it that must not be replaced."""
        backend = backend_class(settings.storage)
        if not backend.durable:
            url = without_passwords(settings.storage)
            raise BackupUnsupportedError(f"{url} loses its data when this command ends: use another store")
        finish_restore(settings.storage)
        target = cls(
            settings,
            backend,
            file_path(settings.storage).resolve(),
            Path(settings.data).resolve(),
            DataFolder.of(settings),
        )
        target._check_places()
        if not replace:
            target.check_free()
        return target

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of an existing store until the block ends. Raises StoreInUseError."""
        with ExitStack() as stack:
            if _exists(self.store):
                stack.enter_context(self.backend.lock_exclusively(self.store))
            yield

    def check_manifest(self, manifest: Manifest) -> None:
        """Raise BackupError if this program or the configured place cannot use the archived store."""
        former = StoreIdFile.read(self.data)
        if former and former.store_id != manifest.store_id and Path(former.location).resolve() != self.store:
            raise BackupError(
                f"the folder data {self.data} belongs to another store, which was at {former.location}: name another"
                " folder with --data"
            )
        scheme = self.settings.storage.partition(":")[0].lower()
        if manifest.backend != scheme:
            raise BackupError(
                f"the backup contains a store of the backend {manifest.backend}, not {scheme}: restore it to another"
                f" --storage, and copy that store by `chalk-flask copy` if you want to change the backend"
            )
        if manifest.schema_version > self.backend.schema_version:
            raise BackupError(
                f"the backup has schema version {manifest.schema_version}, but this program supports versions up to"
                f" {self.backend.schema_version}: use version {manifest.program} of the program, or a later one"
            )

    def owner(self) -> tuple[int, int]:
        """Return the ids of the user and group that the restored files belong to."""
        status = next(path for path in (self.store, *self.store.parents) if path.exists()).stat()
        return status.st_uid, status.st_gid

    def moves(self, staged: _Staging, now: datetime) -> list[Move]:
        """Return the renames of the replacement."""
        files, restored = self.backend.store_files, self.backend.backed_up_store(staged.store / "store")
        suffix = f".before-{now.strftime(_ASIDE_TIME)}"
        store, data = (_unused_name(path, suffix) for path in (self.store, self.data))
        aside = [(self.data, data), *_pairs(files(self.store), files(store))]
        new = [(staged.data / "data", self.data), *_pairs(files(restored), files(self.store))]
        return [
            *(Move(path, former, is_aside=True) for path, former in aside if _exists(path)),
            *(Move(source, path) for source, path in new if source.exists()),
        ]

    def _check_places(self) -> None:
        if self.store == self.data or self.data in self.store.parents or self.store in self.data.parents:
            raise BackupError(
                f"the store {self.store} and the folder data {self.data} must not be inside of each other: name another"
                " folder with --data"
            )
        if other := self.data_folder.other_stores():
            raise BackupError(
                f"the folder data {self.data} is also used by another store, see {other[0]}: name another folder with"
                " --data"
            )

    def check_free(self) -> None:
        """Raise BackupError if there is a store or a folder `data` already."""
        for kind, path in [("store", path) for path in self.backend.store_files(self.store)] + [("folder", self.data)]:
            if _exists(path):
                raise BackupError(
                    f"there is a {kind} already at {path}: name another place with --storage and --data, or move it"
                    " aside with --replace"
                )


@dataclass(frozen=True)
class _Staging:
    """Folders beside the store and beside the folder `data`, in which the new ones are completed."""

    store: Path
    data: Path

    def extract(self, reader: ArchiveReader, target: _Target) -> None:
        """Write all files of the archive and sync them to disk. Raises BackupError and OSError."""
        self._check_space(reader.manifest)
        (self.store / "store").mkdir(mode=0o700)
        (self.data / "data").mkdir(mode=0o700)
        for file in reader.manifest.files:
            top, _, name = file.name.partition("/")
            path = self.store / file.name if top == "store" else self.data / "data" / target.data_folder.path_of(name)
            make_private_folder(path.parent)
            with open_exclusive(path) as output:
                reader.copy_file(file, output.write)
                sync_file(output)
        reader.finish()

    def write_store_id(self, store_id: str, target: _Target) -> None:
        """Write which store the folder `data` belongs to."""
        own = StoreIdFile(store_id, str(target.store), target.data_folder.own["imports"].name)
        with open_exclusive(self.data / "data" / STORE_ID_FILE) as file:
            file.write(own.encode())
            sync_file(file)

    def give_to(self, owner: tuple[int, int]) -> None:
        """Give all files to a user if this process may do that, and sync the names of all files to disk."""
        for root in (self.store, self.data):
            for folder, _, names in os.walk(root):
                for path in (Path(folder), *(Path(folder) / name for name in names)):
                    if os.geteuid() == 0:
                        os.chown(path, *owner, follow_symlinks=False)
                sync_folder(Path(folder))

    def _check_space(self, manifest: Manifest) -> None:
        """Raise BackupError if the files do not fit on the disk."""
        for folder in (self.store, self.data):
            free = shutil.disk_usage(folder).free
            if free < manifest.size + MIN_FREE_BYTES:
                raise BackupError(
                    f"the backup needs {manifest.size + MIN_FREE_BYTES >> 20} MiB of free space in {folder.parent}, but"
                    f" only {free >> 20} MiB are free"
                )


@contextmanager
def _staging_folder(place: Path) -> Iterator[Path]:
    """Yield an empty folder beside a place, and delete it at the end. Deletes what a killed restore has left."""
    make_private_folder(place.parent)
    folder = place.with_name(f".{place.name}.{STAGING_SUFFIX}")
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError("another restore of this store is in progress: try again when it has ended") from error
        _empty(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _prepare_store(target: _Target, staged: _Staging, manifest: Manifest, requested_by: str) -> str:
    """Open the new store with this program, change what must differ from the former one, and return its id.

    Sessions and setup links end, followers of the change feed must read everything again, and the restore is recorded.
    """
    path = target.backend.backed_up_store(staged.store / "store")
    if not path.exists():
        raise ArchiveError("the backup contains no store: use another one")
    try:
        with open_store(url_of(target.settings, path), COLLECTIONS) as store:
            if manifest.store_id and store.store_id != manifest.store_id:
                raise ArchiveError("the backup contains another store than its manifest says: use another one")
            check_readable(store)
            for tenant in store.tenants():
                if not tenant.startswith("_"):
                    with store.write(tenant) as transaction:
                        restart_sequence(transaction)
            _end_sessions(store, manifest, requested_by)
            store_id = store.store_id
    except StorageUnavailableError as error:
        raise ArchiveError(f"the store in the backup cannot be used: {error}") from error
    for leftover in path.parent.glob("*.lock"):
        leftover.unlink()
    return store_id


def _end_sessions(store: Backend, manifest: Manifest, requested_by: str) -> None:
    with store.write(CONTROL) as control:
        for collection in store.collections.values():
            if not collection.is_copied:
                control.delete(collection.name, list(control.keys(collection.name)))
        record_event(control, CONTROL, "backup.restored", by=requested_by, backup=manifest.id, created=manifest.created)


def _pairs(sources: Sequence[Path], targets: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    return zip(sources, targets, strict=True)


def _unused_name(path: Path, suffix: str) -> Path:
    """Return a path beside this one, with which no existing name begins."""
    names = [each.name for each in path.parent.iterdir()]
    candidates = (f"{path.name}{suffix}{f'-{number}' if number else ''}" for number in count())
    return path.with_name(next(name for name in candidates if not any(each.startswith(name) for each in names)))


def _exists(path: Path) -> bool:
    """Return True if there is something else than an empty folder."""
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
