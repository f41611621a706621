"""The door: each way in knows its own credentials, and says what they open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chalk_flask.auth.tokens.record import Grant

__all__ = ["Door", "Way"]


class Way(Protocol):
    """One kind of bearer token."""

    def recognises(self, token: str) -> bool:
        """Whether the text has the shape of this kind, which no other kind has."""
        ...

    def admit(self, token: str) -> tuple[Grant | None, object]:
        """What the token opens now (None: nothing), and the stamp of the store at which that was so.

        The stamp is None when the store was not asked. Raises StorageError.
        """
        ...


class Door:
    """The ways in that a service has; the first that recognises a token decides about it."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = tuple(ways)

    def admit(self, token: str) -> tuple[Grant | None, object]:
        """What the token opens, as `Way.admit` says it; nothing for a token that no way recognises."""
        for way in self._ways:
            if way.recognises(token):
                return way.admit(token)
        return None, None
