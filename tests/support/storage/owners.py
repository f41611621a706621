"""Owners of files. Root can give files away, so tests of root use the folder of another user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["OTHER_USER_ID", "give_to_other_user", "owner_of", "owners_below", "requires_root"]

requires_root = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ, reason="only root can give a file to another user"
)
"""Mark of tests that only root can run. The environment variable CI makes their absence a failure."""

OTHER_USER_ID = 54321
"""User and group id that no account of the machine needs to have."""


def give_to_other_user(path: Path) -> None:
    """Give a file or folder to another user. Raises PermissionError without root, see `requires_root`."""
    os.chown(path, OTHER_USER_ID, OTHER_USER_ID)


def owner_of(path: Path) -> tuple[int, int]:
    """Return the ids of the user and the group of a file."""
    status = path.lstat()
    return status.st_uid, status.st_gid


def owners_below(folder: Path) -> set[tuple[int, int]]:
    """Return the owners of all files and folders below a folder, without links."""
    return {owner_of(path) for path in folder.rglob("*") if not path.is_symlink()}
