"""Names of backups in a folder, and the deletion of the oldest ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

__all__ = ["delete_leftovers", "delete_old_backups", "new_backup_path"]

_PREFIX = "chalk-flask-{}-"
_STORE_ID_LENGTH = 8
_TIME = "%Y%m%dT%H%M%SZ"
_REST = r"[0-9]{8}T[0-9]{6}Z\.tar\.gz(\.enc)?"


def new_backup_path(folder: Path, store_id: str, now: datetime, *, is_encrypted: bool) -> Path:
    """Return the path of a new backup, for example `chalk-flask-1a2b3c4d-20260131T013000Z.tar.gz`."""
    suffix = ".tar.gz.enc" if is_encrypted else ".tar.gz"
    return folder / f"{_prefix(store_id)}{now.strftime(_TIME)}{suffix}"


def delete_old_backups(folder: Path, store_id: str, keep: int) -> Sequence[str]:
    """Delete all but the newest backups of a store, by the time in their names, and return the names.

    Files with other names, also those of other stores, stay. Raises OSError.
    """
    name = re.compile(re.escape(_prefix(store_id)) + _REST)
    backups = sorted(path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_file())
    old = backups[:-keep]
    for path in old:
        path.unlink(missing_ok=True)
    return [path.name for path in old]


def delete_leftovers(path: Path, store_id: str) -> None:
    """Delete the incomplete files that killed backups of the store left beside a new one. Raises OSError.

    No other backup of the store may be in progress.
    """
    names = re.compile(rf"\.({re.escape(_prefix(store_id))}{_REST}|{re.escape(path.name)})\.part")
    for leftover in path.parent.iterdir():
        if names.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)


def _prefix(store_id: str) -> str:
    return _PREFIX.format(store_id[:_STORE_ID_LENGTH] or "store")
