"""Administrator on whose behalf the current thread makes changes, so that each audit event can name the person."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["current_actor", "set_actor"]

_actor: ContextVar[str | None] = ContextVar("audit_actor", default=None)


def set_actor(administrator_id: str | None) -> None:
    """Set the id of the administrator for events that this thread records from now on; None ends that."""
    _actor.set(administrator_id)


def current_actor() -> str | None:
    """Return the id of the administrator on whose behalf this thread makes changes, or None."""
    return _actor.get()
