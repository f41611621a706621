"""Copies of files that never change: a second name for the same file where the file system allows it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["link_or_copy"]


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
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with original.open("rb") as content, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
