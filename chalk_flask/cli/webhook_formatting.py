"""What the commands about webhooks say to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chalk_flask.cli.formatting import format_table

if TYPE_CHECKING:
    from chalk_flask.outbox import Attempt, Delivery, Subscription
    from chalk_flask.webhooks.admin.history import DeliveryHistory

__all__ = ["attempt_text", "created_text", "list_text", "rotated_text", "show_text"]

ONCE = "This is the only time the secret is shown: keep it safe."
WIDE = 100


def created_text(webhook: Subscription, secret: str) -> str:
    """The webhook and its secret."""
    return "\n".join([f"secret    {secret}", *_described(webhook), "", ONCE])


def rotated_text(webhook: Subscription, secret: str) -> tuple[Mapping[str, Any], str]:
    """The new secret and until when the former one signs: as an object, and as text."""
    until = webhook.secrets[1].until if len(webhook.secrets) > 1 else None
    data = {"id": webhook.id, "secret": secret, **({"former_signs_until": until} if until else {})}
    said = f"The former secret signs too until {until}." if until else "The former secret signs no more."
    return data, "\n".join([f"secret    {secret}", f"id        {webhook.id}", said, "", ONCE])


def list_text(webhooks: Iterable[Subscription]) -> str:
    """A line for each."""
    rows = [
        (each.id, each.state, each.mode, "full" if each.full else "thin", each.url, each.label) for each in webhooks
    ]
    if not rows:
        return "There are no webhooks. Create one: chalk-flask webhook create --url URL"
    return format_table(("ID", "STATE", "MODE", "SENDS", "URL", "LABEL"), rows)


def show_text(webhook: Subscription, history: DeliveryHistory) -> str:
    """Everything about one, with a line for each of its last attempts."""
    counts = ", ".join(f"{number} {state}" for state, number in history.counts.items())
    lines = [*_described(webhook), f"sent      {counts}", f"next due  {history.next_due or '-'}"]
    if not history.last:
        return "\n".join([*lines, "", "Nothing was sent yet."])
    rows = [
        (each.attempt.time, each.event_type, _came(each.attempt), f"{each.attempt.ms} ms", _first_line(each.attempt))
        for each in history.last
    ]
    return "\n".join([*lines, "", format_table(("TIME", "EVENT", "STATUS", "TOOK", "ANSWER"), rows)])


def attempt_text(delivery: Delivery) -> str:
    """What came of the last attempt."""
    attempt = delivery.attempts[-1]
    word = "Delivered" if delivery.state == "delivered" else "Not delivered"
    said = _first_line(attempt)
    return f"{word}: {_came(attempt)}, {attempt.ms} ms" + (f"\n{said}" if said else "")


def _described(webhook: Subscription) -> list[str]:
    state = f"{webhook.state}: {webhook.reason}" if webhook.reason else webhook.state
    return [
        f"id        {webhook.id}",
        f"url       {webhook.url}",
        f"state     {state}",
        f"created   {webhook.created}",
        f"sends     {_sends(webhook)}, {webhook.mode}",
        f"events    {_named(webhook.events) or 'all'}",
        f"entities  {_named(webhook.entity_types)}",
        *([f"orgs      {_named(webhook.orgs)}"] if webhook.orgs is not None else []),
        *([f"without   {_named(webhook.excluded)}"] if webhook.excluded else []),
        *([f"withheld  {_named(webhook.withheld)}: the tenant is not opted in"] if webhook.withheld else []),
        *(["initial   records of a first import are told"] if webhook.initial else []),
        *([f"failing   since {webhook.failing_since}"] if webhook.failing_since else []),
        *([f"label     {webhook.label}"] if webhook.label else []),
    ]


def _sends(webhook: Subscription) -> str:
    return "records" if webhook.full else "ids"


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _came(attempt: Attempt) -> str:
    return str(attempt.status) if attempt.status is not None else (attempt.error or "-")


def _first_line(attempt: Attempt) -> str:
    """Of what a receiver answered, as a terminal may get it."""
    from chalk_flask.roster.package.problems import to_one_line

    lines = attempt.answer.strip().splitlines()
    return to_one_line(lines[0])[:WIDE] if lines else ""
