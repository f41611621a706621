"""Authentication of bearer tokens of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from chalk_flask.auth.rejections import note_rejection
from chalk_flask.permissions.principal import Principal

__all__ = ["Authenticator", "TokenVerifier"]


class TokenVerifier(Protocol):
    """Verifier of one kind of bearer token. `credential_type` is that of its principals."""

    credential_type: ClassVar[str]

    def can_verify(self, token: str) -> bool:
        """Return True if the token has the shape of this kind. No token has the shape of two kinds."""
        ...

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal of a valid token, else None, and the version of the control tenant that was read.

        The version is None if the store was not read. Raises StorageError.
        """
        ...

    def peek(self, token: str) -> tuple[Principal | None, object]:
        """Return the same as `authenticate`, but do not use up a token that is accepted once. Raises StorageError."""
        ...

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal with the rules of now; None if its credential has ended. Raises StorageError."""
        ...


class Authenticator:
    """Registry of token verifiers. The first one that recognizes a token verifies it."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._verifiers = tuple(verifiers)

    def authenticate(self, token: str) -> tuple[Principal | None, object]:
        """Return the principal and the store version. Return (None, None) if no verifier recognizes the token.

        Raises StorageError.
        """
        verifier = self._find_verifier(token)
        return verifier.authenticate(token) if verifier else (None, None)

    def peek(self, token: str) -> Principal | None:
        """Return the principal of a token that the same request will present to `authenticate` later, or None.

        A token that is accepted once stays valid. Raises StorageError.
        """
        verifier = self._find_verifier(token)
        return verifier.peek(token)[0] if verifier else None

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal with the rules of now, for a request that lasts; None if its credential has ended.

        The rules are those of the credential and of its tenant. A JWT may expire meanwhile. Raises StorageError.
        """
        for verifier in self._verifiers:
            if verifier.credential_type == principal.credential_type:
                return verifier.renew(principal)
        return None

    def _find_verifier(self, token: str) -> TokenVerifier | None:
        for verifier in self._verifiers:
            if verifier.can_verify(token):
                return verifier
        note_rejection("the bearer token has no known form")
        return None
