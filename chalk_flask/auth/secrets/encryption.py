"""Encryption of secrets in the store, with a key in a file next to it.

A copy of the store alone, or of the key alone, reveals no secret.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError

__all__ = ["SECRETS_KEY_FILE", "SecretCipher", "SecretUnavailableError"]

SECRETS_KEY_FILE = "secrets.key"
"""Name of the key file below the setting `data`."""


class SecretUnavailableError(Exception):
    """Error of encrypting or decrypting a secret.

    The message names the key file and a remedy. It contains no secret.
    """


class SecretCipher:
    """Cipher (Fernet) whose key is in a file of `folder`. A changed key file is noticed at once.

    Encrypt in the write transaction that stores the result, so that `rotate_secrets` finds it.

    Safe for many threads and processes.
    """

    def __init__(self, folder: Path | str) -> None:
        self._path = Path(folder) / SECRETS_KEY_FILE
        self._key_file = KeyFile(self._path)

    def encrypt(self, secret: str) -> str:
        """Return the encrypted secret. Creates the key if there is none. Raises SecretUnavailableError."""
        try:
            return _fernet(self._key_file.read_or_create()).encrypt(secret.encode()).decode()
        except KeyFileError as error:
            raise SecretUnavailableError(str(error)) from error

    def decrypt(self, encrypted: str) -> str:
        """Return the secret. Raises SecretUnavailableError if the key is missing, damaged or a different one."""
        try:
            keys = self._key_file.read_all()
        except KeyFileError as error:
            raise SecretUnavailableError(str(error)) from error
        if not keys:
            raise SecretUnavailableError(
                f"the key file {self._path}, which this secret is encrypted with, is missing: restore it, or"
                " give the folder with this file with --data (CHALK_DATA)"
            )
        try:
            return MultiFernet(map(_fernet, keys)).decrypt(encrypted.encode()).decode()
        except InvalidToken as error:
            raise SecretUnavailableError(
                f"the key file {self._path} does not contain the key that this secret is encrypted with:"
                " restore the right file"
            ) from error

    def is_current(self, encrypted: str) -> bool:
        """Return True if the newest key decrypts the secret. Raises SecretUnavailableError if there is no key."""
        try:
            key = self._key_file.read_or_create()
            _fernet(key).decrypt(encrypted.encode())
        except KeyFileError as error:
            raise SecretUnavailableError(str(error)) from error
        except InvalidToken:
            return False
        return True


def _fernet(key: bytes) -> Fernet:
    return Fernet(urlsafe_b64encode(key))
