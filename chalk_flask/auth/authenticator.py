"""Authentication of bearer tokens of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chalk_flask.permissions.principal import Principal

__all__ = ["Authenticator", "TokenVerifier"]


class TokenVerifier(Protocol):
    """Verifier of one kind of bearer token."""

    def can_verify(self, token: str) -> bool:
        """Return True if the token has the shape of this kind. No token has the shape of two kinds."""
        ...

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal of a valid token, else None, and the version of the control tenant that was read.

        The version is None if the store was not read. Raises StorageError.
        """
        ...


class Authenticator:
    """Authenticator of bearer tokens: the first verifier that recognizes a token decides about it."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._verifiers = tuple(verifiers)

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return principal and store version as `TokenVerifier.authenticate` does, (None, None) for an unknown kind.

        Raises StorageError.
        """
        for verifier in self._verifiers:
            if verifier.can_verify(token):
                return verifier.authenticate(token)
        return None, None
