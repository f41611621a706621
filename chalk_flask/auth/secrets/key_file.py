"""Key in a file outside of the store, so that a copy of the database alone cannot sign or decrypt."""

from __future__ import annotations

import os
import secrets
import shlex
from contextlib import suppress
from pathlib import Path

from chalk_flask.files import create_once, make_private_folder

__all__ = ["KeyFile", "KeyFileError"]

KEY_BYTES = 32
"""Length of a key."""

MODE_OF_OTHERS = 0o077
"""Permissions of the group and of all others, none of which a key file may give."""


class KeyFileError(Exception):
    """Error of creating or reading a key file; the message names the file and a remedy."""


class KeyFile:
    """File with 256 random bits that only its owner can read, created on the first use.

    All processes that use the file agree on the key. Each call checks whether the file was replaced or deleted.
    Thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._cache: tuple[object, bytes] | None = None

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
        """Return the key, or None if there is no key file. Raises KeyFileError."""
        try:
            cache, status = self._cache, os.stat(self._name)  # noqa: PTH116 - twice as fast, and run for each request
            if status.st_mode & MODE_OF_OTHERS:
                raise KeyFileError(
                    f"other users can access the key file {self._path}: run chmod 600 {shlex.quote(self._name)}"
                )
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if cache is None or cache[0] != identity:
                self._cache = cache = (identity, self._parse(self._path.read_bytes()))
            return cache[1]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(f"cannot read the key file {self._path}: {error.strerror}") from error

    def _parse(self, content: bytes) -> bytes:
        with suppress(ValueError):
            key = bytes.fromhex(content.decode().strip())
            if len(key) == KEY_BYTES:
                return key
        raise KeyFileError(
            f"the key file {self._path} contains no key of this service: restore it from a backup, or delete it to"
            " create a new key; access tokens or encrypted secrets of the old key are then invalid"
        )

    def _create(self) -> None:
        try:
            make_private_folder(self._path.parent)
            create_once(self._path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        except OSError as error:
            raise KeyFileError(f"cannot create the key file {self._path}: {error.strerror}") from error
