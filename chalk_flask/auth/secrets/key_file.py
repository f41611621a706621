"""Key in a file outside of the store, so that a copy of the database alone cannot sign or decrypt."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from chalk_flask.files import atomic_write, create_once, make_private_folder

__all__ = ["KeyFile", "KeyFileError", "new_key"]

KEY_BYTES = 32
"""Length of a key."""

MODE_OF_OTHERS = 0o077
"""Permissions of the group and of all others, none of which a key file may give."""

REPLACEMENT_HINT = (
    "restore it from a backup, or delete it to create a new key; access tokens or encrypted secrets of the old key are"
    " then invalid"
)


class KeyFileError(Exception):
    """Error of creating or reading a key file; the message names the file and a remedy."""


class KeyFile:
    """File with 256 random bits that only its owner can read, created on the first use.

    Each line is a key. While a key is replaced, the file has two: the new one, and the former one that still decrypts.

    All processes that use the file agree on the keys. Each call checks whether the file was replaced or deleted.
    Thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._cache: tuple[object, tuple[bytes, ...]] | None = None

    def read_or_create(self) -> bytes:
        """Return the key. Create the key file if it is missing. Raises KeyFileError."""
        key = self.read()
        if key is None:
            self._create()
            key = self.read()
        if key is None:
            raise KeyFileError(f"the key file {self._path} was deleted while it was created: try again")
        return key

    def read(self) -> bytes | None:
        """Return the newest key, or None if there is no key file. Raises KeyFileError."""
        return next(iter(self.read_all()), None)

    def read_all(self) -> tuple[bytes, ...]:
        """Return all keys, the newest first; none if there is no key file. Raises KeyFileError."""
        try:
            cache, status = self._cache, os.stat(self._name)  # noqa: PTH116 - twice as fast, and run for each request
            self._check(status)
            if cache is None or cache[0] != _identity(status):
                self._cache = cache = self._read_file()
            return cache[1]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"cannot read the key file {self._path}: {error.strerror}") from error

    def replace(self, keys: Sequence[bytes]) -> None:
        """Replace the content by these keys, the newest first. A crash leaves the former content or the new one.

        Raises KeyFileError.
        """
        try:
            with atomic_write(self._path, for_store=True) as file:
                file.writelines(key.hex().encode() + b"\n" for key in keys)
        except OSError as error:
            raise KeyFileError(f"cannot replace the key file {self._path}: {error.strerror}") from error

    def _check(self, status: os.stat_result) -> None:
        """Raise KeyFileError for a special file, and for one that others can access."""
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"the key file {self._path} is not a regular file: {REPLACEMENT_HINT}")
        if status.st_mode & MODE_OF_OTHERS:
            raise KeyFileError(
                f"other users can access the key file {self._path}: run chmod 600 {shlex.quote(self._name)}"
            )

    def _read_file(self) -> tuple[object, tuple[bytes, ...]]:
        """Return the identity of the file and the keys in it. Never waits for the writer of a pipe."""
        descriptor = os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            self._check(status)
            with open(descriptor, "rb", closefd=False) as file:
                return _identity(status), self._parse(file.read())
        finally:
            os.close(descriptor)

    def _parse(self, content: bytes) -> tuple[bytes, ...]:
        with suppress(ValueError):
            keys = tuple(map(bytes.fromhex, content.decode().split()))
            if keys and all(len(key) == KEY_BYTES for key in keys):
                return keys
        raise KeyFileError(f"the key file {self._path} contains no key of this service: {REPLACEMENT_HINT}")

    def _create(self) -> None:
        try:
            make_private_folder(self._path.parent)
            create_once(self._path, new_key().hex().encode() + b"\n")
        except OSError as error:
            raise KeyFileError(f"cannot create the key file {self._path}: {error.strerror}") from error


def new_key() -> bytes:
    """Return a random key."""
    return secrets.token_bytes(KEY_BYTES)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size
