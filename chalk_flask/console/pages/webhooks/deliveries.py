"""Delivery of a webhook: its attempts with their responses, its body, and sending it again."""

from __future__ import annotations

import orjson
from flask import Response, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound

from chalk_flask.console.context import current
from chalk_flask.console.pages.webhooks.webhooks import STATES, attempt_result, find_webhook, webhook_store
from chalk_flask.outbox import Delivery, delivery_days
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES
from chalk_flask.webhooks import DeliveryBody, WebhookError

__all__ = ["download_body", "replay_delivery", "show_delivery"]

MAX_SHOWN_CHARACTERS = 16_000
"""Characters of a body that the page shows. The rest is in the download."""
MAX_ATTEMPTS = 20
"""Attempts that the page shows, the latest ones."""


def show_delivery(webhook_id: str, event_id: str) -> ResponseReturnValue:
    """Show a delivery: its attempts, newest first, and its body without demographics.

    Responses to a webhook that receives demographics are not shown, because they may repeat them.
    """
    webhook = find_webhook(webhook_id)
    delivery, body = _find(webhook_id, event_id)
    text = _text(body) if body else ""
    return render_template(
        "console/webhooks/delivery.html",
        webhook=webhook,
        delivery=delivery,
        state=STATES[delivery.state],
        attempts=delivery.attempts[: -MAX_ATTEMPTS - 1 : -1],
        result=attempt_result,
        hides_responses=bool(webhook.entities & OPT_IN_ENTITIES),
        body=body,
        text=text[:MAX_SHOWN_CHARACTERS],
        is_cut=len(text) > MAX_SHOWN_CHARACTERS,
    )


def download_body(webhook_id: str, event_id: str) -> ResponseReturnValue:
    """Return the body of a delivery as a file, without demographics."""
    find_webhook(webhook_id)
    delivery, body = _find(webhook_id, event_id)
    if body is None:
        raise NotFound("The body of this delivery is not stored any more.")
    headers = {"Content-Disposition": f'attachment; filename="{delivery.event_id}.json"'}
    return Response(_text(body), mimetype="application/json", headers=headers)


def replay_delivery(webhook_id: str, event_id: str) -> ResponseReturnValue:
    """Send a delivery again, with the same id and bytes."""
    find_webhook(webhook_id)
    _find(webhook_id, event_id)
    try:
        count = webhook_store().replay(current().tenant, webhook_id, event_id=event_id)
    except WebhookError as error:
        raise Conflict("The webhook is disabled. Resume it before you send deliveries again.") from error
    if count:
        flash("The delivery is queued again. Reload the page to see its result.", "success")
    else:
        flash("The delivery is pending already, or its body is not stored any more.", "info")
    return redirect(url_for("console.show_delivery", webhook_id=webhook_id, event_id=event_id), 303)


def _find(webhook_id: str, event_id: str) -> tuple[Delivery, DeliveryBody | None]:
    try:
        return webhook_store().delivery(current().tenant, webhook_id, event_id)
    except WebhookError as error:
        days = delivery_days(current().services.store, current().tenant)
        raise NotFound(f"The delivery does not exist, or it was deleted after {days} days.") from error


def _text(body: DeliveryBody) -> str:
    return orjson.dumps(body.message, option=orjson.OPT_INDENT_2).decode()
