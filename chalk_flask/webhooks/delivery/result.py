"""Result of one attempt, as the queue, the journal and the recorder exchange it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chalk_flask.outbox import Attempt, Delivery

__all__ = ["AttemptResult"]


def _ignore(result: AttemptResult, delivery: Delivery | None) -> None:
    """Do nothing: the default of `on_saved`."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """Result of one attempt for the delivery `key` of the event `event_id`.

    `ended_at` is a time of the `SteadyClock`. `is_gone` is True if the receiver responded 410. The recorder calls
    `on_saved` once the result is stored, with the stored delivery, or None if it does not exist any more.
    """

    tenant: str
    webhook: str
    key: str
    event_id: str
    attempt: Attempt
    ended_at: float
    delivered: bool
    on_saved: Callable[[AttemptResult, Delivery | None], None] = _ignore
    is_gone: bool = False
    retry_after: float | None = None
