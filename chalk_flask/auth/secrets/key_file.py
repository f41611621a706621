"""A key in a file of its own, outside of the store: a copy of the database alone signs nothing."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["KeyFile", "KeyFileError"]

KEY_BYTES = 32
"""Bytes of a key."""


class KeyFileError(Exception):
    """A key file cannot be made or read, or holds something else; the message names the file and what to do."""


class KeyFile:
    """256 random bits that the owner of the file alone can read, made when they are first asked for.

    All processes that use the file agree on them. When the file is replaced or removed, the next one who asks notices.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._seen: tuple[object, bytes] | None = None

    def key(self) -> bytes:
        """The key; made if there is none. Raises KeyFileError."""
        key = self.existing()
        if key is None:
            self._make()
            key = self.existing()
        if key is None:
            raise KeyFileError(f"{self._path} was removed while it was being made: try again")
        return key

    def existing(self) -> bytes | None:
        """The key, or None when nobody has made it yet. Raises KeyFileError."""
        try:
            seen, status = self._seen, os.stat(self._name)  # noqa: PTH116 - asked for each request, and twice as quick
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen is None or seen[0] != identity:
                self._seen = seen = (identity, self._parsed(self._path.read_bytes()))
            return seen[1]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(f"the key file {self._path} cannot be read: {error.strerror}") from error

    def _parsed(self, content: bytes) -> bytes:
        with suppress(ValueError):
            key = bytes.fromhex(content.decode().strip())
            if len(key) == KEY_BYTES:
                return key
        raise KeyFileError(f"{self._path} holds no key of this service: put the right one back, or remove it")

    def _make(self) -> None:
        """Written whole under another name, then linked, which fails if another process was first: its key is taken."""
        written = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            _private_folder(self._path.parent)
            try:
                _write(written, secrets.token_hex(KEY_BYTES).encode() + b"\n")
                with suppress(FileExistsError):
                    os.link(written, self._path)
            finally:
                written.unlink(missing_ok=True)
        except OSError as error:
            raise KeyFileError(f"the key file {self._path} cannot be made: {error.strerror}") from error


def _private_folder(folder: Path) -> None:
    """The folder and what is missing above it, each for its owner alone."""
    if not folder.exists():
        _private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
