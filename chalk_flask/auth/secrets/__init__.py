"""Encryption of secrets that must be readable again: a secret goes in, an encrypted text for the store comes out.

`SecretCipher` is the entry point. The key is in a file outside of the store. `KeyFile` reads and creates such files.
`rotate_secrets` replaces the key.
"""

from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError
from chalk_flask.auth.secrets.rotation import RotationResult, rotate_secrets

__all__ = [
    "KeyFile",
    "KeyFileError",
    "RotationResult",
    "SecretCipher",
    "SecretUnavailableError",
    "rotate_secrets",
]
