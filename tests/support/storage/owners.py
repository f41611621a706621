"""Owners of files. Root can give files away, so tests that run as root use the folder of another user."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OTHER_USER_ID", "give_to_other_user", "owner_of", "owners_below"]

OTHER_USER_ID = 54321
"""User and group id that no account of the machine needs to have."""


def give_to_other_user(path: Path) -> None:
    """Give a file or folder to another user, if the tests run as root. Otherwise it stays as it is."""
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER_ID, OTHER_USER_ID)


def owner_of(path: Path) -> tuple[int, int]:
    """Return the ids of the user and the group of a file."""
    status = path.lstat()
    return status.st_uid, status.st_gid


def owners_below(folder: Path) -> set[tuple[int, int]]:
    """Return the owners of all files and folders below a folder, without links."""
    return {owner_of(path) for path in folder.rglob("*") if not path.is_symlink()}
