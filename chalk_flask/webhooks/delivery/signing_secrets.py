"""The signing secrets of a webhook that are in force."""

from __future__ import annotations

from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Subscription

__all__ = ["SigningSecrets"]

_MOST = 1024


class SigningSecrets:
    """Opens sealed secrets, each once: they are opened for every delivery. Safe for use by many threads at once."""

    def __init__(self, vault: SecretCipher) -> None:
        self._vault = vault
        self._opened: dict[str, str] = {}

    def active(self, subscription: Subscription, moment: float) -> list[str]:
        """The secrets with which a delivery at that moment, in seconds since the epoch, is signed; the newest first.

        Raises SecretUnavailableError.
        """
        return [self._open(each.sealed) for each in subscription.active_secrets(format_instant(moment))]

    def _open(self, sealed: str) -> str:
        opened = self._opened.get(sealed)
        if opened is None:
            opened = self._vault.decrypt(sealed)
            if len(self._opened) >= _MOST:
                self._opened.clear()
            self._opened[sealed] = opened
        return opened
