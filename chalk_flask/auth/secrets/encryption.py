"""Secrets that must be read again: sealed in the store, under a key that lies in a file beside it.

A copy of the store alone opens nothing, and neither does the key alone.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError

__all__ = ["KEY_FILE_NAME", "SecretCipher", "SecretUnavailableError"]

KEY_FILE_NAME = "secrets.key"
"""The name of the key file below the setting `data`."""


class SecretUnavailableError(Exception):
    """A secret cannot be sealed or opened; the message names the key file and says what to do, and holds no secret."""


class SecretCipher:
    """Seals and opens secrets with the key in a folder. A key file that is put back is noticed at once.

    Safe for use by many threads and processes at once.
    """

    def __init__(self, folder: Path | str) -> None:
        self._path = Path(folder) / KEY_FILE_NAME
        self._key_file = KeyFile(self._path)

    def encrypt(self, secret: str) -> str:
        """The secret in a form that only `open` reads. Makes the key when there is none. Raises SecretUnavailableError."""
        try:
            return _fernet(self._key_file.key()).encrypt(secret.encode()).decode()
        except KeyFileError as error:
            raise SecretUnavailableError(str(error)) from error

    def decrypt(self, sealed: str) -> str:
        """The secret that was sealed. Raises SecretUnavailableError when the key is missing, damaged or another one."""
        try:
            key = self._key_file.existing()
        except KeyFileError as error:
            raise SecretUnavailableError(str(error)) from error
        if key is None:
            raise SecretUnavailableError(
                f"the key file {self._path}, under which this secret was sealed, is not there: put it back"
            )
        try:
            return _fernet(key).decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SecretUnavailableError(
                f"the key file {self._path} holds another key than the one under which this secret was sealed: put the"
                " right one back"
            ) from error


def _fernet(key: bytes) -> Fernet:
    return Fernet(urlsafe_b64encode(key))
