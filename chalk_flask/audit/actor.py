"""Actor of a thread: the administrator or the user of a command for whom it makes changes.

Audit events name the actor in `by`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["acting_as", "current_actor", "set_actor"]

_actor: ContextVar[str | None] = ContextVar("audit_actor", default=None)


def set_actor(administrator_id: str | None) -> None:
    """Set the administrator whom events of this thread name as actor from now on; None for no administrator."""
    _actor.set(administrator_id)


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Name this user of the operating system as actor in the events of the block."""
    token = _actor.set(user)
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> str | None:
    """Return the administrator or user for whom this thread makes changes, or None."""
    return _actor.get()
