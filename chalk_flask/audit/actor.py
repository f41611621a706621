"""Actor of a thread: the administrator for whom it makes changes. Audit events name the actor in `by`."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["current_actor", "set_actor"]

_actor: ContextVar[str | None] = ContextVar("audit_actor", default=None)


def set_actor(administrator_id: str | None) -> None:
    """Set the administrator whom events of this thread name as actor from now on; None for no administrator."""
    _actor.set(administrator_id)


def current_actor() -> str | None:
    """Return the id of the administrator for whom this thread makes changes, or None."""
    return _actor.get()
