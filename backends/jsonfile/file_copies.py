"""Copies of files: for a file that never changes, a second name where the file system allows it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["copy_file", "link_or_copy"]


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it to a file with mode 0600, for example on another file system.

    Links are followed. Neither file may be written afterwards. Raises OSError.
    """
    original = source.resolve()
    try:
        os.link(original, target)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(original, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to a new one with mode 0600. For root, the copy has the owner of the file. Raises OSError."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as copy, source.open("rb") as content:
        if os.geteuid() == 0:
            owner = os.fstat(content.fileno())
            with suppress(OSError):  # a container may deny it to root
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        shutil.copyfileobj(content, copy, 1 << 20)
