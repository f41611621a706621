"""The door: each way in knows its own credentials, and says what they open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chalk_flask.permissions.principal import Principal

__all__ = ["Authenticator", "TokenVerifier"]


class TokenVerifier(Protocol):
    """One kind of bearer token."""

    def can_verify(self, token: str) -> bool:
        """Whether the text has the shape of this kind, which no other kind has."""
        ...

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """What the token opens now (None: nothing), and the stamp of the store at which that was so.

        The stamp is None when the store was not asked. Raises StorageError.
        """
        ...


class Authenticator:
    """The ways in that a service has; the first that recognises a token decides about it."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._ways = tuple(verifiers)

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """What the token opens, as `Way.admit` says it; nothing for a token that no way recognises."""
        for way in self._ways:
            if way.can_verify(token):
                return way.authenticate(token)
        return None, None
