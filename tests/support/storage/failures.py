"""Real failures of a disk: a limit of file sizes, files that the process may not write, a device without space."""

from __future__ import annotations

import codecs
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FULL_DEVICE", "UNPRIVILEGED_USER_ID", "file_size_limit", "public_folder", "without_root"]

FULL_DEVICE = Path("/dev/full")
"""Device on which every write fails because no space is left."""

UNPRIVILEGED_USER_ID = 65534


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every write beyond this offset of a file fail, as on a disk that is full or a quota that is used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def without_root() -> Iterator[None]:
    """Run as a user whom file modes bind. Without root this changes nothing.

    That user may be unable to read the files of Python. So the codec that URLs need is loaded before.
    """
    codecs.lookup("idna")
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED_USER_ID)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def public_folder() -> Iterator[Path]:
    """Yield an empty folder that every user can read and write. pytest's own folders belong to one user."""
    folder = Path(tempfile.mkdtemp(prefix="chalk-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
