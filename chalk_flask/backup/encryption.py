"""Encryption of archives with a passphrase.

The key is derived by scrypt (RFC 7914). The stream is Cobblestone-256, the chunked AES-256-GCM of `cryptography`, which
detects each changed, missing or moved byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chalk_flask.backup.errors import ArchiveError, BackupError

__all__ = ["MAGIC", "DecryptingReader", "EncryptingWriter", "Input", "read_passphrase"]

MAGIC = b"chalk-flask backup, encrypted 1\n"
"""First bytes of an encrypted archive. They are followed by the salt. The number stands for the parameters below."""

SALT_BYTES = 16
MIN_PASSPHRASE_LENGTH = 12
MAX_PASSPHRASE_FILE_BYTES = 4096

_SCRYPT_COST, _SCRYPT_BLOCK_SIZE, _SCRYPT_PARALLELIZATION = 2**17, 8, 1
"""Parameters that OWASP's cheat sheet on password storage recommends. They take 128 MiB of memory."""

_READ_BYTES = 1 << 18


class Input(Protocol):
    """Stream from which an archive is read. It need not be seekable."""

    def read(self, size: int, /) -> bytes:
        """Return up to this number of bytes, and none at the end only."""
        ...


class EncryptingWriter:
    """Stream that encrypts what is written to it into another one. `finish` must be called at the end."""

    def __init__(self, write: Callable[[bytes], object], passphrase: str) -> None:
        self._write = write
        salt = os.urandom(SALT_BYTES)
        self._encryptor = Cobblestone256Encryptor(_key(passphrase, salt), MAGIC)
        write(MAGIC + salt)

    def write(self, data: bytes, /) -> int:
        """Write all bytes. Some stay in memory until the next call."""
        self._write(self._encryptor.update(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: `finish` writes the rest."""

    def finish(self) -> None:
        """Write the last bytes. Without them the archive counts as incomplete."""
        self._write(self._encryptor.finalize())


class DecryptingReader:
    """Stream with the content of an encrypted one, which must be at its first byte.

    Raises ArchiveError if a byte is wrong or missing, or the passphrase is another one.
    """

    def __init__(self, source: Input, passphrase: str) -> None:
        self._source = source
        header = source.read(len(MAGIC) + SALT_BYTES)
        if len(header) < len(MAGIC) + SALT_BYTES or not header.startswith(MAGIC):
            raise ArchiveError("this is not a backup of Chalk Flask, or a later version of the program encrypted it")
        self._decryptor = Cobblestone256Decryptor(_key(passphrase, header[len(MAGIC) :]), MAGIC)
        self._buffer = memoryview(b"")
        self._has_content = self._is_complete = False

    def read(self, size: int, /) -> bytes:
        """Return up to this number of bytes, and none at the end only."""
        while not self._buffer and not self._is_complete:
            self._buffer = memoryview(self._decrypt_next())
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(data)

    def _decrypt_next(self) -> bytes:
        data = self._source.read(_READ_BYTES)
        try:
            if data:
                content = self._decryptor.update(data)
            else:
                content = self._decryptor.finalize()
                self._is_complete = True
        except InvalidTag as error:
            if self._has_content:
                raise ArchiveError("the backup is damaged or incomplete: use another one") from error
            raise ArchiveError("the passphrase is wrong, or the backup is damaged") from error
        self._has_content = True
        return content


def read_passphrase(path: Path) -> str:
    """Return the first line of a file. Raises BackupError if it is too short, and OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_PASSPHRASE_FILE_BYTES)
    try:
        passphrase = content.decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError as error:
        raise BackupError(f"the passphrase in {path} is not UTF-8: write it as text on the first line") from error
    if len(passphrase) < MIN_PASSPHRASE_LENGTH:
        raise BackupError(
            f"the passphrase in {path} is too short: write at least {MIN_PASSPHRASE_LENGTH} characters on the first"
            " line"
        )
    return passphrase


def _key(passphrase: str, salt: bytes) -> bytes:
    kdf = Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=_SCRYPT_BLOCK_SIZE, p=_SCRYPT_PARALLELIZATION)
    return kdf.derive(passphrase.encode())
