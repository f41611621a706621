"""One attempt to deliver an event: signed anew, posted, and whatever came of it as a value."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from backends import Backend
from chalk_flask.auth.secrets.encryption import SecretUnavailableError
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Attempt, Delivery, Subscription
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter
from chalk_flask.webhooks.delivery.recorder import AttemptResult, Recorder
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from chalk_flask.webhooks.delivery.signing_secrets import SigningSecrets
from chalk_flask.webhooks.http.client import AttemptResponse
from chalk_flask.webhooks.http.signature import signed_headers

__all__ = ["DeliveryContext", "Sender", "attempt"]

log = logging.getLogger(__name__)

BUSY = (429, 503)
GONE = 410


class Sender(Protocol):
    """What sends: a chalk_flask.webhooks.http.client.Poster."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AttemptResponse:
        """Make one attempt."""

    def close(self) -> None:
        """Close the connection that is kept."""


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """What all endpoints share."""

    store: Backend
    secrets: SigningSecrets
    recorder: Recorder
    schedule: RetryPolicy
    poster: Callable[[], Sender]
    now: Callable[[], float]
    stopping: threading.Event
    pace: RateLimiter


def attempt(
    desk: DeliveryContext,
    poster: Sender,
    subscription: Subscription,
    delivery: Delivery,
    body: bytes | None,
    saved: Callable[[AttemptResult], None],
) -> AttemptResult:
    """Send a delivery to whom it is for, once; `saved` is called when what came of it is stored.

    A fault of ours is an outcome, too, so that it ends nothing.
    """
    desk.pace.wait()
    began = desk.now()
    answer = _answer(desk, poster, subscription, delivery, body, began)
    return AttemptResult(
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
    desk: DeliveryContext,
    poster: Sender,
    subscription: Subscription,
    delivery: Delivery,
    body: bytes | None,
    began: float,
) -> AttemptResponse:
    if body is None:
        return AttemptResponse(None, 0, "its body is missing in the store")
    try:
        secrets = desk.secrets.active(subscription, began)
        if not secrets:
            return AttemptResponse(None, 0, "no secret of the webhook is in force: rotate it")
        moment = datetime.fromtimestamp(began, UTC)
        headers = signed_headers(secrets, delivery.event_id, subscription.id, moment, body)
        return poster.post(subscription.url, headers, body)
    except SecretUnavailableError as error:
        return AttemptResponse(None, 0, str(error))
    except Exception as error:  # noqa: BLE001 - it is recorded, and others go on
        log.error("an attempt for webhook %s failed here: %s", subscription.id, error_location(error))
        return AttemptResponse(None, 0, f"it failed here, not there: {error_location(error)}")
