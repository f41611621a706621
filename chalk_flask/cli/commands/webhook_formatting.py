"""Text output of the webhook commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chalk_flask.cli.credentials import shown_once_warning
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from chalk_flask.outbox import Attempt, Delivery, Subscription
    from chalk_flask.webhooks.admin.history import DeliveryHistory

__all__ = ["attempt_text", "created_text", "list_text", "rotated_text", "show_text"]

MAX_RESPONSE_WIDTH = 100


def created_text(webhook: Subscription, secret: str) -> str:
    """Return a new webhook and its secret."""
    return "\n".join([f"secret    {secret}", *_properties(webhook), "", shown_once_warning("secret")])


def rotated_text(webhook: Subscription, secret: str) -> tuple[Mapping[str, Any], str]:
    """Return the new secret and the end of the former one, as an object and as text."""
    until = webhook.secrets[1].valid_until if len(webhook.secrets) > 1 else None
    data = {"id": webhook.id, "secret": secret, **({"former_signs_until": until} if until else {})}
    former = f"The former secret signs too until {until}." if until else "The former secret is no longer used."
    return data, "\n".join([f"secret    {secret}", f"id        {webhook.id}", former, "", shown_once_warning("secret")])


def list_text(webhooks: Iterable[Subscription]) -> str:
    """Return a table with a line per webhook."""
    rows = [
        (webhook.id, webhook.state, webhook.mode, _payload(webhook), webhook.url, webhook.label) for webhook in webhooks
    ]
    if not rows:
        return complete_hints("There are no webhooks. Create one: chalk-flask webhook create --url URL")
    return format_table(("ID", "STATE", "MODE", "SENDS", "URL", "LABEL"), rows)


def show_text(webhook: Subscription, history: DeliveryHistory) -> str:
    """Return all properties of a webhook and a table of its latest attempts."""
    counts = ", ".join(f"{number} {state}" for state, number in history.counts.items())
    lines = [*_properties(webhook), f"sent      {counts}", f"next due  {history.next_due or '-'}"]
    if not history.latest_attempts:
        return "\n".join([*lines, "", "No attempts yet."])
    rows = [
        (
            recent.attempt.time,
            recent.event_type,
            _result(recent.attempt),
            f"{recent.attempt.ms} ms",
            _first_line(recent.attempt),
        )
        for recent in history.latest_attempts
    ]
    return "\n".join([*lines, "", format_table(("TIME", "EVENT", "STATUS", "DURATION", "RESPONSE"), rows)])


def attempt_text(delivery: Delivery) -> str:
    """Return the result of the latest attempt of a delivery."""
    attempt = delivery.attempts[-1]
    word = "Delivered" if delivery.state == "delivered" else "Not delivered"
    response = _first_line(attempt)
    return f"{word}: {_result(attempt)}, {attempt.ms} ms" + (f"\n{response}" if response else "")


def _properties(webhook: Subscription) -> list[str]:
    state = f"{webhook.state}: {webhook.reason}" if webhook.reason else webhook.state
    return [
        f"id        {webhook.id}",
        f"url       {webhook.url}",
        f"state     {state}",
        f"created   {webhook.created}",
        f"sends     {_payload(webhook)}, {webhook.mode}",
        f"events    {_join(webhook.events) or 'all'}",
        f"entities  {_join(webhook.entity_types)}",
        *([f"orgs      {_join(webhook.orgs)}"] if webhook.orgs is not None else []),
        *([f"without   {_join(webhook.excluded)}"] if webhook.excluded else []),
        *([f"withheld  {_join(webhook.withheld)}: the tenant has not opted in"] if webhook.withheld else []),
        *(["initial   records of a first import are sent"] if webhook.initial else []),
        *([f"failing   since {webhook.failing_since}"] if webhook.failing_since else []),
        *([f"label     {webhook.label}"] if webhook.label else []),
    ]


def _payload(webhook: Subscription) -> str:
    return "records" if webhook.full else "ids"


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _result(attempt: Attempt) -> str:
    return str(attempt.status) if attempt.status is not None else (attempt.error or "-")


def _first_line(attempt: Attempt) -> str:
    """Return the first line of the response, safe to print on a terminal."""
    from chalk_flask.roster.package.problems import to_one_line

    lines = attempt.answer.strip().splitlines()
    return to_one_line(lines[0])[:MAX_RESPONSE_WIDTH] if lines else ""
