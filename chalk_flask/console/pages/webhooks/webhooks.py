"""Webhooks: list, create, pause, resume, test, rotate the secret, replay and delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound
from wtforms import RadioField

from chalk_flask.admins.roles import Permission
from chalk_flask.api.routes import ROOTS
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_count, format_sentence
from chalk_flask.console.pages.webhooks.webhook_form import WebhookForm, describe_events, entity_label
from chalk_flask.console.session_cookie import flash_secret, take_secret
from chalk_flask.console.widgets.charts import BarChart, bar_chart
from chalk_flask.console.widgets.forms import ConsoleForm, select_choices
from chalk_flask.console.widgets.paging import PAGE_SIZE
from chalk_flask.outbox import Attempt, Subscription, delivery_days
from chalk_flask.times import utc_now
from chalk_flask.webhooks import (
    MAX_COUNTED,
    MAX_EXACT_COUNT,
    RecentResults,
    SsrfGuard,
    WebhookClient,
    WebhookError,
    WebhookStore,
)

__all__ = [
    "attempt_result",
    "create_webhook",
    "delete_webhook",
    "find_webhook",
    "list_webhooks",
    "pause_webhook",
    "replay_webhook",
    "resume_webhook",
    "rotate_webhook",
    "send_test_event",
    "show_new_webhook",
    "show_webhook",
    "webhook_name",
    "webhook_store",
]

CHALK_ROOT = next(root.path for root in ROOTS if root.name == "chalk")
HEALTH_DAYS = 14
"""Days that the chart of a webhook shows."""

MAX_NAMED_ORGS, MAX_NAMED_LENGTH = 5, 80
"""Maximum number of unknown ids that a message names, and of characters of each."""

STATES = {"pending": "Pending", "delivered": "Delivered", "failed": "Failed"}
"""States of deliveries in words."""

OVERLAP_CHOICES = [("24", "For 24 hours"), ("168", "For 7 days"), ("0", "Not at all")]
REPLAY_CHOICES = [
    ("1", "The last hour"),
    ("24", "The last 24 hours"),
    ("168", "The last 7 days"),
    ("672", "The last 28 days"),
]


class RotateSecretForm(ConsoleForm):
    """Form that asks how long the former secret signs too."""

    overlap = RadioField("The former secret signs too", choices=select_choices(OVERLAP_CHOICES), default="24")


class ReplayForm(ConsoleForm):
    """Form that asks which deliveries to send again."""

    since = RadioField("Deliveries of", choices=select_choices(REPLAY_CHOICES), default="24")


def list_webhooks() -> ResponseReturnValue:
    """Show the webhooks of the tenant, oldest first."""
    found = webhook_store().list(current().tenant)
    return render_template("console/webhooks/webhooks.html", webhooks=[_row(webhook) for webhook in found])


def show_new_webhook() -> ResponseReturnValue:
    """Show the form for a new webhook. The query can contain its URL."""
    return _new_webhook_page(WebhookForm.prepare(formdata=None, url=request.args.get("url", "")))


def create_webhook() -> ResponseReturnValue:
    """Create a webhook, and redirect to its page, which shows its secret once."""
    form, console = WebhookForm.prepare(), current()
    if not form.check(_guard()):
        return _new_webhook_page(form, 422)
    root = console.services.settings.public_url + CHALK_ROOT
    try:
        created = webhook_store().create(console.tenant, form.to_request(root))
    except WebhookError as error:
        form.form_errors.append(format_sentence(error))
        return _new_webhook_page(form, 422)
    if created.unknown_orgs:
        flash(_unknown_orgs_text(created.unknown_orgs), "warning")
    flash_secret(_subject(created.subscription.id), created.secret)
    return redirect(url_for("console.show_webhook", webhook_id=created.subscription.id), 303)


def show_webhook(webhook_id: str) -> ResponseReturnValue:
    """Show a webhook: its results by day, its deliveries, and once its new secret."""
    webhook, console, store = find_webhook(webhook_id), current(), webhook_store()
    state: Any = request.args.get("state", "")
    if state and state not in STATES:
        raise NotFound("There are no deliveries in this state.")
    try:
        overview = store.overview(console.tenant, webhook_id)
        found = store.deliveries(console.tenant, webhook_id, state or None, _page_key(), PAGE_SIZE)
    except WebhookError as error:
        raise NotFound from error
    return render_template(
        "console/webhooks/webhook.html",
        webhook=_row(webhook),
        properties=_properties(webhook),
        secret=take_secret(_subject(webhook_id)),
        counts={name: format_count(count, MAX_EXACT_COUNT) for name, count in overview.counts.items()},
        next_due=overview.next_due,
        chart=_health_chart(store.results_by_day(console.tenant, webhook_id, HEALTH_DAYS)),
        deliveries=found.deliveries,
        older_url=_deliveries_url(webhook_id, state, found.older) if found.older else "",
        newest_url=_deliveries_url(webhook_id, state) if _page_key() else "",
        delivery_days=delivery_days(console.services.store, console.tenant),
        state=state,
        states=STATES,
        state_links=_state_links(webhook_id, state),
        result=attempt_result,
        rotate_form=RotateSecretForm(formdata=None),
        replay_form=ReplayForm(formdata=None),
    )


def pause_webhook(webhook_id: str) -> ResponseReturnValue:
    """Pause a webhook. Its deliveries stay pending."""
    find_webhook(webhook_id)
    try:
        webhook_store().pause(current().tenant, webhook_id)
    except WebhookError as error:
        raise Conflict("The webhook is disabled, so it cannot be paused. Resume it to enable it.") from error
    flash("The webhook is paused. Changes are queued until you resume it.", "success")
    return _to_webhook(webhook_id)


def resume_webhook(webhook_id: str) -> ResponseReturnValue:
    """Resume a paused or disabled webhook. Its pending deliveries are sent at once."""
    find_webhook(webhook_id)
    try:
        _, waiting = webhook_store().resume(current().tenant, webhook_id)
    except WebhookError as error:
        raise NotFound from error
    flash(f"The webhook is resumed. Pending deliveries: {waiting}.", "success")
    return _to_webhook(webhook_id)


def send_test_event(webhook_id: str) -> ResponseReturnValue:
    """Send a test event now, and redirect to its delivery."""
    find_webhook(webhook_id)
    client = WebhookClient(_guard())
    try:
        delivery = webhook_store().test(current().tenant, webhook_id, client)
    except WebhookError as error:
        raise Conflict(format_sentence(error)) from error
    finally:
        client.close()
    attempt = delivery.attempts[-1]
    if delivery.state == "delivered":
        flash(f"The test event was delivered: status {attempt.status}, {attempt.ms} ms.", "success")
    else:
        flash(f"The test event was not delivered: {attempt_result(attempt)}.", "error")
    return redirect(url_for("console.show_delivery", webhook_id=webhook_id, event_id=delivery.event_id), 303)


def rotate_webhook(webhook_id: str) -> ResponseReturnValue:
    """Give a webhook a new secret, and redirect to its page, which shows the secret once."""
    find_webhook(webhook_id)
    form = RotateSecretForm()
    if not form.validate():
        raise Conflict("Choose how long the former secret signs too. Nothing was changed.")
    try:
        secret, _ = webhook_store().rotate(current().tenant, webhook_id, timedelta(hours=int(form.overlap.data)))
    except WebhookError as error:
        raise Conflict(format_sentence(error)) from error
    flash_secret(_subject(webhook_id), secret)
    flash("The webhook has a new secret. Give it to the receiver.", "success")
    return _to_webhook(webhook_id)


def replay_webhook(webhook_id: str) -> ResponseReturnValue:
    """Send the deliveries of a period again, with the same ids and bytes."""
    find_webhook(webhook_id)
    form = ReplayForm()
    if not form.validate():
        raise Conflict("Choose the deliveries to send again. Nothing was changed.")
    since = utc_now() - timedelta(hours=int(form.since.data))
    try:
        count = webhook_store().replay(current().tenant, webhook_id, since=since)
    except WebhookError as error:
        raise Conflict("The webhook is disabled. Resume it before you send deliveries again.") from error
    if count:
        flash(f"Queued deliveries: {count}.", "success")
    else:
        flash("There is nothing to send again: all deliveries of this period are pending already, or deleted.", "info")
    return _to_webhook(webhook_id)


def delete_webhook(webhook_id: str) -> ResponseReturnValue:
    """Delete a webhook with its deliveries."""
    webhook = find_webhook(webhook_id)
    try:
        _, removed = webhook_store().delete(current().tenant, webhook_id)
    except WebhookError as error:
        raise NotFound from error
    flash(f"The webhook “{webhook.label or webhook.id}” and its deliveries ({removed}) are deleted.", "success")
    return redirect(url_for("console.list_webhooks"), 303)


def webhook_store() -> WebhookStore:
    """Return the store of the webhooks."""
    services = current().services
    return WebhookStore(services.store, SecretCipher(Path(services.settings.data).absolute()), _guard())


def find_webhook(webhook_id: str) -> Subscription:
    """Return the webhook of the current tenant with this id. Raises NotFound."""
    found = webhook_store().list(current().tenant)
    webhook = next((webhook for webhook in found if webhook.id == webhook_id), None)
    if webhook is None:
        raise NotFound
    return webhook


def webhook_name(webhook: Subscription) -> str:
    """Return the label of a webhook, or the host of its receiver."""
    return webhook.label or urlsplit(webhook.url).hostname or webhook.id


def attempt_result(attempt: Attempt) -> str:
    """Return the status of an attempt, or why there was no response."""
    return f"status {attempt.status}" if attempt.status is not None else attempt.error or "no response"


def _guard() -> SsrfGuard:
    return SsrfGuard(current().services.settings.webhook_allowed_hosts.split(","))


def _unknown_orgs_text(orgs: Sequence[str]) -> str:
    """Return a warning that names a few ids: all messages and the new secret share a cookie of 4 KB."""
    named = ", ".join(f"“{org[:MAX_NAMED_LENGTH]}”" for org in orgs[:MAX_NAMED_ORGS])
    more = f" and {len(orgs) - MAX_NAMED_ORGS} more" if len(orgs) > MAX_NAMED_ORGS else ""
    return f"The tenant has no school or district yet with the id {named}{more}."


def _to_webhook(webhook_id: str) -> ResponseReturnValue:
    return redirect(url_for("console.show_webhook", webhook_id=webhook_id), 303)


def _row(webhook: Subscription) -> dict[str, Any]:
    """Return what the list shows of a webhook."""
    return {
        "id": webhook.id,
        "name": webhook_name(webhook),
        "url": _shown_url(webhook.url),
        "state": webhook.state,
        "reason": webhook.reason,
        "failing_since": webhook.failing_since,
        "created": webhook.created,
        "events": describe_events(webhook),
    }


def _shown_url(url: str) -> str:
    """Return the URL for the administrator. Its path and query may contain a secret, which viewers do not see."""
    if current().allows(Permission.WEBHOOKS_OPERATE):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


def _properties(webhook: Subscription) -> Sequence[tuple[str, str]]:
    records = "full records" if webhook.full else "ids, from which the receiver reads the records"
    delivery = "one delivery for each import" if webhook.mode == "batched" else "one delivery for each record"
    pairs = [
        ("Id", webhook.id),
        ("Events", describe_events(webhook)),
        ("Records", ", ".join(entity_label(entity) for entity in sorted(webhook.entity_types))),
        ("Contents", f"{records}; {delivery}"),
        ("Schools and districts", ", ".join(sorted(webhook.orgs)) if webhook.orgs is not None else "all"),
        ("Left out", ", ".join(sorted(webhook.excluded)) or "nothing"),
        ("First import", "each record is sent" if webhook.initial else "only its end is sent"),
    ]
    if webhook.withheld:
        pairs.append(("Withheld", f"{', '.join(sorted(webhook.withheld))}: the tenant has not opted in"))
    return pairs


def _health_chart(results: RecentResults) -> BarChart:
    days = results.days
    series = {
        "Delivered": [day.delivered for day in days],
        "Failed": [day.failed for day in days],
        "Pending": [day.pending for day in days],
    }
    title = f"Newest {MAX_COUNTED:,} deliveries" if results.is_cut else f"Deliveries of the last {HEALTH_DAYS} days"
    return bar_chart(title, [f"{day.day:%m-%d}" for day in days], series)


def _state_links(webhook_id: str, state: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "href": _deliveries_url(webhook_id, name),
            "current": name == state,
        }
        for name, label in STATES.items()
    ]


def _deliveries_url(webhook_id: str, state: str, before: str = "") -> str:
    params: dict[str, Any] = {name: value for name, value in (("state", state), ("before", before)) if value}
    return url_for("console.show_webhook", webhook_id=webhook_id, _anchor="deliveries", **params)


def _page_key() -> str:
    """Return the key before which the page of deliveries begins; "" for the first page."""
    text = request.args.get("before", "")
    return text if text.isascii() and text.isdigit() else ""


def _new_webhook_page(form: WebhookForm, status: int = 200) -> ResponseReturnValue:
    return make_response(render_template("console/webhooks/new_webhook.html", form=form), status)


def _subject(webhook_id: str) -> str:
    return f"webhook:{webhook_id}"
