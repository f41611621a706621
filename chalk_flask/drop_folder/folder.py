"""Files of a drop folder: new packages, the claimed one, and those whose import has ended.

A claimed package is in a folder of its own, whose name contains the id of its import run. After a crash, the watcher
looks up this id: if the run was stored, the import is not repeated.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from filelock import FileLock, Timeout

from backends.files.private_files import give_to_owner
from chalk_flask.files import atomic_write, create_private_file, open_private, open_without_links, sync_folder

__all__ = ["ClaimedPackage", "DropFolder", "DropFolderError", "Outcome"]

Outcome: TypeAlias = Literal["done", "held", "rejected"]
"""Subfolder of a package whose import has ended."""

WORKING: Final = "working"
SUBFOLDERS: Final = (WORKING, "done", "held", "rejected")
MAX_NAME_BYTES: Final = 200
"""Maximum size of a file name to which a time and suffixes are added. File systems allow 255 bytes."""
LOCK_FILE: Final = ".chalk-flask.lock"
STARTS_FILE: Final = ".starts"

_TYPES: Final = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_CLAIM: Final = re.compile(r"(\d{8}T\d{6}Z)_(run-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class DropFolderError(Exception):
    """Error for a folder that cannot be watched. The message contains the reason and a remedy."""


@dataclass(frozen=True, slots=True)
class ClaimedPackage:
    """Package whose import has begun: its path, the time of the claim, and the id of its import run."""

    path: Path
    time: str
    run: str

    @property
    def folder(self) -> Path:
        """Folder that contains nothing but the package and the number of its starts."""
        return self.path.parent

    def count_start(self) -> int:
        """Store that an import starts, and return the number of starts since `forget_starts`. Raises OSError.

        The watcher calls `forget_starts` after each import, so only starts that ended the process are counted.
        """
        with open(self.folder / STARTS_FILE, "ab", opener=_open_without_links) as file:
            file.write(b".")
            return file.tell()

    def forget_starts(self) -> None:
        """Set the number of starts to 0. Raises OSError."""
        (self.folder / STARTS_FILE).unlink(missing_ok=True)


class DropFolder:
    """Folder into which another program puts packages. `path` must exist. `lock` creates the subfolders.

    If this process is root, its files belong to the owner of `store`, the user of the service.
    """

    def __init__(self, path: Path, store: Path) -> None:
        self.path, self._store = path.absolute(), store

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process and create its subfolders. Raises DropFolderError and OSError."""
        if not self.path.is_dir():
            raise DropFolderError(f"there is no folder {self.path}: create it, and let the service user write to it")
        lock = self._acquire_lock()
        try:
            for name in SUBFOLDERS:
                self._create_subfolder(name)
            yield
        finally:
            lock.release()

    def _acquire_lock(self) -> FileLock:
        path = self.path / LOCK_FILE
        try:
            create_private_file(path, self._model())
            lock = FileLock(path, timeout=0, mode=0o600)
            lock.acquire()
        except Timeout:
            raise DropFolderError(f"another process watches {self.path}: stop it, or watch another folder") from None
        except PermissionError:
            self._check_owner(path)
            raise
        return lock

    def list_new(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the ZIP files that are not claimed, each with its `stat` result. Raises OSError.

        Hidden files are skipped, because programs use such names until a file is complete.
        """
        for path, status in self._list_named_zip():
            if stat.S_ISREG(status.st_mode):
                yield path, status

    def list_invalid(self) -> Iterator[tuple[Path, str]]:
        """Yield links, folders and special files named like a ZIP file, each with its type. Raises OSError."""
        for path, status in self._list_named_zip():
            if not stat.S_ISREG(status.st_mode):
                yield path, _TYPES.get(stat.S_IFMT(status.st_mode), "a special file")

    def _list_named_zip(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the entries named like a ZIP file, each with the `stat` result of itself. Raises OSError."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.lower().endswith(".zip"):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)

    def claim(self, path: Path, now: datetime) -> ClaimedPackage | None:
        """Move a package into a folder of its own. Return None if it is gone.

        Raises OSError, and PermissionError if this user cannot move the package.
        """
        time = _format_time(now)
        run = f"run-{uuid.uuid4()}"
        folder = self.path / WORKING / f"{time}_{run}"
        self._make_private_folder(folder)
        claimed = folder / path.name
        try:
            path.rename(claimed)
        except OSError as error:
            folder.rmdir()
            if isinstance(error, FileNotFoundError):
                return None
            raise
        for changed in (folder, folder.parent, self.path):
            sync_folder(changed)
        return ClaimedPackage(claimed, time, run)

    def list_claimed(self) -> list[ClaimedPackage]:
        """Return the packages whose import has not ended, oldest first. Raises OSError."""
        found = []
        for folder in sorted((self.path / WORKING).iterdir()):
            match = _CLAIM.fullmatch(folder.name)
            if match is None:
                continue
            packages = [path for path in folder.iterdir() if path.name != STARTS_FILE]
            if packages:
                found.append(ClaimedPackage(packages[0], match[1], match[2]))
            else:  # the process was killed before it had moved the package here, or after it had moved it away
                _remove(folder)
        return found

    def finish(self, package: ClaimedPackage, outcome: Outcome, report: str) -> Path:
        """Write the report of a package, move the package beside it, and return its new path. Raises OSError."""
        target = self._move(package.path, package.time, outcome, report)
        _remove(package.folder)
        return target

    def reject(self, path: Path, now: datetime, report: str) -> Path:
        """Move an entry that is no package, with a report, and return its new path. Raises OSError.

        A link itself is moved, not its target.
        """
        return self._move(path, _format_time(now), "rejected", report)

    def _move(self, path: Path, time: str, outcome: Outcome, report: str) -> Path:
        folder = self.path / outcome
        name = f"{time}-{_shorten(path.name)}"
        target = next(each for each in _candidate_paths(folder, name) if not os.path.lexists(each))
        report_path = target.with_name(f"{target.name}.txt")
        with atomic_write(report_path, for_store=True) as file:
            file.write(f"{report}\n".encode(errors="backslashreplace"))
        try:
            path.rename(target)
        except OSError:
            report_path.unlink()
            raise
        sync_folder(folder)
        return target

    def _create_subfolder(self, name: str) -> None:
        """Create a subfolder that only this user can read. Raises DropFolderError if it belongs to another user."""
        folder = self.path / name
        with contextlib.suppress(FileExistsError):
            self._make_private_folder(folder)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise DropFolderError(f"{folder} is not a folder: remove it")
        self._check_owner(folder)

    def _make_private_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        descriptor = open_without_links(folder)
        try:
            give_to_owner(descriptor, self._model())
        finally:
            os.close(descriptor)

    def _model(self) -> Path:
        """Return the file or folder whose owner gets what root creates."""
        return self._store if self._store.exists() else self._store.parent

    def _check_owner(self, path: Path) -> None:
        """Raise DropFolderError if a path belongs neither to this user nor, if this is root, to that of the store."""
        owners = {os.geteuid()}
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                owners.add(self._model().stat().st_uid)
        if path.lstat().st_uid not in owners:
            raise DropFolderError(f"{path} belongs to another user: give it to the user of the service with chown")


def _open_without_links(path: str, flags: int) -> int:
    return open_private(path, flags | os.O_NOFOLLOW)


def _format_time(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%SZ}"


def _shorten(name: str) -> str:
    """Return the name, or the end of one that is longer than MAX_NAME_BYTES."""
    return os.fsencode(name)[-MAX_NAME_BYTES:].decode(errors="ignore")


def _candidate_paths(folder: Path, name: str) -> Iterator[Path]:
    """Yield paths for a file of this name, the first one without a number."""
    stem, _, suffix = name.rpartition(".")
    yield folder / name
    for number in range(2, 10_000):
        yield folder / f"{stem}-{number}.{suffix}"


def _remove(folder: Path) -> None:
    """Delete the folder of a claimed package that was moved away. If that fails, the next start tries again."""
    with contextlib.suppress(OSError):
        (folder / STARTS_FILE).unlink(missing_ok=True)
        folder.rmdir()
