"""Log events of failed attempts. They contain no text of the receiver and no URL, which may contain a secret."""

from __future__ import annotations

import logging

from chalk_flask.logs import log_event
from chalk_flask.outbox import Delivery, Subscription
from chalk_flask.webhooks.delivery.result import AttemptResult

__all__ = ["log_attempt", "log_disabled"]

log = logging.getLogger(__name__)


def log_attempt(result: AttemptResult, delivery: Delivery | None) -> None:
    """Log a failed attempt after it was stored; `delivery` is None if it does not exist any more."""
    if result.delivered:
        return
    attempt, ids = result.attempt, {"tenant": result.tenant, "webhook": result.webhook, "delivery": result.event_id}
    reason = attempt.error or f"the receiver answered {attempt.status}"
    details = {"status": attempt.status, "reason": reason, "ms": attempt.ms}
    log_event(log, logging.WARNING, "webhook.failed", "an attempt to deliver failed", **ids, **details)
    if delivery is not None and delivery.state == "failed":
        log_event(log, logging.ERROR, "webhook.given_up", "a delivery is given up", **ids, attempts=delivery.tries)


def log_disabled(webhook: Subscription) -> None:
    """Log that a webhook was disabled."""
    message = "a webhook is disabled: `chalk-flask webhook resume` enables it"
    members = {"tenant": webhook.tenant, "webhook": webhook.id, "reason": webhook.reason}
    log_event(log, logging.ERROR, "webhook.disabled", message, **members)
