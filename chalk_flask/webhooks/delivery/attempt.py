"""One attempt to deliver an event: sign it, send it, and return the result as a value."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Protocol

from backends import Backend
from chalk_flask.auth.secrets.encryption import SecretUnavailableError
from chalk_flask.outbox import Attempt, Delivery, Subscription
from chalk_flask.times import format_epoch_seconds
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter
from chalk_flask.webhooks.delivery.recorder import Recorder
from chalk_flask.webhooks.delivery.result import AttemptResult
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from chalk_flask.webhooks.delivery.signing_secrets import SigningSecrets
from chalk_flask.webhooks.delivery.steady_clock import SteadyClock
from chalk_flask.webhooks.http.client import AttemptResponse
from chalk_flask.webhooks.http.signature import signed_headers

__all__ = ["DeliveryContext", "Sender", "attempt"]

log = logging.getLogger(__name__)

RETRY_AFTER_STATUSES: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Sender(Protocol):
    """HTTP client of one webhook, as chalk_flask.webhooks.http.client.WebhookClient."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AttemptResponse:
        """Send one POST request and return the response or the error."""

    def close(self) -> None:
        """Close the idle connection, if there is one."""


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """Objects that all delivery queues of a worker share.

    `now` returns the system time, with which deliveries are signed. Waits and stored times use `clock`. The queues send
    only while `is_leading` returns True, because another process may have become the worker.
    """

    store: Backend
    secrets: SigningSecrets
    recorder: Recorder
    retry_policy: RetryPolicy
    make_sender: Callable[[], Sender]
    now: Callable[[], float]
    clock: SteadyClock
    stopping: threading.Event
    is_leading: Callable[[], bool]
    rate_limiter: RateLimiter


def attempt(
    context: DeliveryContext,
    sender: Sender,
    subscription: Subscription,
    delivery: Delivery,
    body: bytes | None,
    on_saved: Callable[[AttemptResult, Delivery | None], None],
) -> AttemptResult:
    """Send a delivery once and return the result; the recorder calls `on_saved` once it has stored the result.

    An internal error becomes a failed attempt too, so that it never ends the worker.
    """
    context.rate_limiter.wait()
    started_at = context.clock.now()
    response = _send(context, sender, subscription, delivery, body)
    return AttemptResult(
        tenant=subscription.tenant,
        webhook=subscription.id,
        key=delivery.key,
        event_id=delivery.event_id,
        attempt=Attempt(
            format_epoch_seconds(started_at), response.duration_ms, response.status, response.error, response.text
        ),
        ended_at=context.clock.now(),
        delivered=response.delivered,
        on_saved=on_saved,
        is_gone=response.status == HTTPStatus.GONE,
        retry_after=response.retry_after if response.status in RETRY_AFTER_STATUSES else None,
    )


def _send(
    context: DeliveryContext,
    sender: Sender,
    subscription: Subscription,
    delivery: Delivery,
    body: bytes | None,
) -> AttemptResponse:
    if body is None:
        return AttemptResponse(None, 0, "the body is missing in the store")
    try:
        now = context.now()
        secrets = context.secrets.active(subscription, now)
        if not secrets:
            return AttemptResponse(None, 0, "the webhook has no active secret: run `webhook rotate`")
        sent_at = datetime.fromtimestamp(now, UTC)
        headers = signed_headers(secrets, delivery.event_id, subscription.id, sent_at, body)
        return sender.post(subscription.url, headers, body)
    except SecretUnavailableError as error:
        return AttemptResponse(None, 0, str(error))
    except Exception as error:  # noqa: BLE001 - the error is recorded, and the other deliveries go on
        log.error("internal error while sending to webhook %s: %s", subscription.id, error_location(error))
        return AttemptResponse(None, 0, f"internal error: {error_location(error)}")
