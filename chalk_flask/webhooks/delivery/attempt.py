"""One attempt to deliver an event: signed anew, posted, and whatever came of it as a value."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from backends import Backend
from chalk_flask.auth.secrets.encryption import VaultClosed
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Attempt, Delivery, Subscription
from chalk_flask.tracebacks import where
from chalk_flask.webhooks.delivery.rate_limiter import Pace
from chalk_flask.webhooks.delivery.recorder import Outcome, Recorder
from chalk_flask.webhooks.delivery.retry_policy import Schedule
from chalk_flask.webhooks.delivery.signing_secrets import Secrets
from chalk_flask.webhooks.http.client import Answer
from chalk_flask.webhooks.http.signature import signed_headers

__all__ = ["Desk", "Posting", "attempt"]

log = logging.getLogger(__name__)

BUSY = (429, 503)
GONE = 410


class Posting(Protocol):
    """What sends: a chalk_flask.webhooks.http.client.Poster."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one attempt."""

    def close(self) -> None:
        """Close the connection that is kept."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all endpoints share."""

    store: Backend
    secrets: Secrets
    recorder: Recorder
    schedule: Schedule
    poster: Callable[[], Posting]
    now: Callable[[], float]
    stopping: threading.Event
    pace: Pace


def attempt(
    desk: Desk,
    poster: Posting,
    subscription: Subscription,
    delivery: Delivery,
    body: bytes | None,
    saved: Callable[[Outcome], None],
) -> Outcome:
    """Send a delivery to whom it is for, once; `saved` is called when what came of it is stored.

    A fault of ours is an outcome, too, so that it ends nothing.
    """
    desk.pace.wait()
    began = desk.now()
    answer = _answer(desk, poster, subscription, delivery, body, began)
    return Outcome(
        tenant=subscription.tenant,
        webhook=subscription.id,
        key=delivery.key,
        event_id=delivery.event_id,
        attempt=Attempt(format_instant(began), answer.ms, answer.status, answer.error, answer.text),
        moment=desk.now(),
        delivered=answer.delivered,
        saved=saved,
        gone=answer.status == GONE,
        retry_after=answer.retry_after if answer.status in BUSY else None,
    )


def _answer(
    desk: Desk, poster: Posting, subscription: Subscription, delivery: Delivery, body: bytes | None, began: float
) -> Answer:
    if body is None:
        return Answer(None, 0, "its body is missing in the store")
    try:
        secrets = desk.secrets.in_force(subscription, began)
        if not secrets:
            return Answer(None, 0, "no secret of the webhook is in force: rotate it")
        moment = datetime.fromtimestamp(began, UTC)
        headers = signed_headers(secrets, delivery.event_id, subscription.id, moment, body)
        return poster.post(subscription.url, headers, body)
    except VaultClosed as error:
        return Answer(None, 0, str(error))
    except Exception as error:  # noqa: BLE001 - it is recorded, and others go on
        log.error("an attempt for webhook %s failed here: %s", subscription.id, where(error))
        return Answer(None, 0, f"it failed here, not there: {where(error)}")
