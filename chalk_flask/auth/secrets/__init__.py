"""Secrets that must be readable again: `SecretCipher` encrypts them for the store and decrypts them.

The key is in a file outside of the store. `KeyFile` reads and creates such files.
"""

from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError

__all__ = ["KeyFile", "KeyFileError", "SecretCipher", "SecretUnavailableError"]
