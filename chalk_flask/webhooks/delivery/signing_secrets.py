"""Decrypted signing secrets of webhooks."""

from __future__ import annotations

from typing import Final

from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.caching import LRUCache
from chalk_flask.outbox import Subscription
from chalk_flask.times import format_epoch_seconds

__all__ = ["SigningSecrets"]

MAX_CACHED_SECRETS: Final = 1024


class SigningSecrets:
    """Cache of decrypted secrets, because every delivery is signed. Thread-safe."""

    def __init__(self, cipher: SecretCipher) -> None:
        self._cipher = cipher
        self._cache: LRUCache[str, str] = LRUCache(MAX_CACHED_SECRETS)

    def active(self, subscription: Subscription, timestamp: float) -> list[str]:
        """Return the secrets that sign at `timestamp` (seconds since the epoch), newest first.

        Raises SecretUnavailableError if the key file is missing or wrong.
        """
        active = subscription.active_secrets(format_epoch_seconds(timestamp))
        return [self._decrypt(secret.ciphertext) for secret in active]

    def _decrypt(self, encrypted: str) -> str:
        return self._cache.get_or_create(encrypted, lambda: self._cipher.decrypt(encrypted))
