"""Replacement of the files of a store in one step, also if the process is killed between two renames.

The moves are first written to a file beside the store. From then on every process that opens the store completes them
before. Until then, nothing has changed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from backends.errors import StorageBusyError, StorageUnavailableError
from backends.files.private_files import open_private, sync_folder
from backends.os_errors import storage_error

__all__ = ["Move", "finish_replacement", "replace_files"]

_LOCK_TIMEOUT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.01

_ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors that prove that there is no file with the moves."""


class Move(NamedTuple):
    """Rename of a file or folder within a file system.

    If `is_aside`, it is the former file, and `target` is a new name that no other file has ever had.
    """

    source: Path
    target: Path
    is_aside: bool = False

    def run(self) -> None:
        """Rename the file if this was not done before. Raises StorageUnavailableError and OSError."""
        if not os.path.lexists(self.source) or (self.is_aside and os.path.lexists(self.target)):
            return
        if not self.is_aside and os.path.lexists(self.target) and not _is_empty_folder(self.target):
            raise StorageUnavailableError(
                f"a restore was interrupted and cannot be completed, because {self.target} exists: move it away, and"
                " run any command"
            )
        self.source.rename(self.target)
        for folder in {self.source.parent, self.target.parent}:
            sync_folder(folder)


def replace_files(location: Path, moves: Sequence[Move]) -> None:
    """Run the moves, in order, as one step for all processes that open the store at `location`.

    The new files must be complete and synced to disk. Raises StorageUnavailableError and OSError.
    """
    plan = _plan_path(location)
    part = plan.with_name(f"{plan.name}.part")
    with open(part, "wb", opener=open_private) as file:
        # The lock belongs to the file, not to its name. A process that finds the plan waits for it.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(orjson.dumps([_to_json(move, plan.parent) for move in moves]))
        file.flush()
        os.fsync(file.fileno())
        part.rename(plan)
        sync_folder(plan.parent)
        _run(plan, moves)


def finish_replacement(location: Path) -> bool:
    """Complete a replacement that was interrupted; return True if there was one.

    Waits for a process that is about to complete it. Raises StorageUnavailableError.
    """
    plan = _plan_path(location)
    try:
        with _locked_plan(plan) as file:
            if file is None:
                return False
            _run(plan, _parse_plan(file.read(), plan.parent))
            return True
    except OSError as error:
        raise storage_error(error, plan) from error
    except ValueError as error:
        raise StorageUnavailableError(f"{plan} is unreadable: delete it, and restore a backup") from error


@contextlib.contextmanager
def _locked_plan(plan: Path) -> Iterator[IO[bytes] | None]:
    """Yield the locked file with the moves, or None if there is none, or none any more."""
    try:
        file = plan.open("rb")
    except OSError as error:
        if error.errno not in _ABSENT_ERRNOS:
            raise
        yield None
        return
    with file:
        _wait_for_lock(file, plan)
        yield file if os.fstat(file.fileno()).st_nlink else None


def _wait_for_lock(file: IO[bytes], plan: Path) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageBusyError(f"another process restores the store, see {plan}: try again") from None
            time.sleep(_LOCK_POLL_SECONDS)


def _run(plan: Path, moves: Sequence[Move]) -> None:
    for move in moves:
        move.run()
    plan.unlink()
    sync_folder(plan.parent)


def _plan_path(location: Path) -> Path:
    location = location.resolve()
    return location.with_name(f".{location.name}.moves")


def _to_json(move: Move, folder: Path) -> list[object]:
    """Return a move with paths relative to the folder, which may be mounted elsewhere when the moves are completed."""
    return [os.path.relpath(move.source, folder), os.path.relpath(move.target, folder), move.is_aside]


def _parse_plan(content: bytes, folder: Path) -> list[Move]:
    """Return the moves of a plan. Raises ValueError."""
    match orjson.loads(content):
        case [_, *_] as moves:
            return [_from_json(move, folder) for move in moves]
    raise ValueError("not a list of moves")


def _from_json(move: object, folder: Path) -> Move:
    match move:
        case [str(source), str(target), bool(is_aside)]:
            return Move(folder / source, folder / target, is_aside)
    raise ValueError("not a move")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
