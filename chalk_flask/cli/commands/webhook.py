"""`chalk-flask webhook`: who is told of changes is registered, shown, paused, resumed and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    require_durable,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.param_types import duration_or_zero, timestamp_or_age
from chalk_flask.cli.webhook_formatting import attempt_text, created_text, list_text, rotated_text, show_text

if TYPE_CHECKING:
    from chalk_flask.settings import Settings
    from chalk_flask.webhooks.admin.store import WebhookStore

__all__ = ["webhook_group"]

EVENT_HELP = "What it is told: user.created, user.*, *.deleted, sync.completed; may be repeated.  [default: everything]"
ENTITY_HELP = (
    "Of which records: user, enrollment, academicSession...; may be repeated.  [default: all but demographics, of which"
    " only those hear who name them]"
)
ORG_HELP = "Only of records of this org, by its sourcedId; may be repeated.  [default: of all]"
EXCLUDE_HELP = "A field that is neither sent nor told of: email, user.email, metadata.note; may be repeated."
MODE_HELP = "One delivery for each import, or one for each record."


@click.group("webhook", short_help="Tell others of changes: create, list, show, pause, test, replay webhooks.")
def webhook_group() -> None:
    """Manage webhooks: URLs to which is posted what changes, signed as Standard Webhooks has it.

    Deliveries are made by chalk-flask serve. docs/webhooks.md is for those who receive them.
    """


@webhook_group.command(
    "create", epilog="Example: chalk-flask webhook create --url https://tool.example.org/hooks --event 'user.*'"
)
@click.option("--url", required=True, help="Where deliveries are posted: https, and a public address unless allowed.")
@click.option("--label", default="", help="Who is told; shown in the list.")
@click.option("--event", "events", multiple=True, metavar="EVENT", help=EVENT_HELP)
@click.option("--entity", "entities", multiple=True, metavar="ENTITY", help=ENTITY_HELP)
@click.option("--org", "orgs", multiple=True, metavar="ID", help=ORG_HELP)
@click.option("--exclude", "excluded", multiple=True, metavar="FIELD", help=EXCLUDE_HELP)
@click.option("--mode", type=click.Choice(["batched", "per_entity"]), default="batched", help=MODE_HELP)
@click.option("--full", is_flag=True, help="Send the records too, not their ids alone.")
@click.option("--initial", is_flag=True, help="Tell of each record of a first import too, not only of its end.")
@tenant_option
@as_json_option
@settings_options("data", "public_url", "webhook_allowed_hosts")
def create(tenant: str, as_json: bool, **given: Any) -> None:
    """Create a webhook and show its secret, once: the store keeps it encrypted.

    By default it is told of everything but demographics, by ids alone, in one delivery for each import. Hrefs in full
    records begin with public_url as it is set now.
    """
    from chalk_flask.webhooks.admin.subscription_options import WebhookRequest

    chosen = {name: given.pop(name) for name in WebhookRequest.__slots__ if name != "root"}
    settings = require_durable(given)
    check_configured_tenant(settings, tenant)
    with _webhooks(settings) as webhooks:
        made = webhooks.create(tenant, WebhookRequest(**chosen, root=_root(settings)))
    for org in made.unknown_orgs:
        click.echo(f"Note: there is no org {org!r} in the tenant {tenant} yet.", err=True)
    echo_result(
        as_json, made.subscription.to_dict() | {"secret": made.secret}, created_text(made.subscription, made.secret)
    )


@webhook_group.command("list", epilog="Example: chalk-flask webhook list --json")
@tenant_option
@as_json_option
@settings_options()
def list_webhooks(tenant: str, as_json: bool, **given: Any) -> None:
    """List the webhooks of a tenant, the oldest first; never a secret."""
    from backends import store_exists

    settings, found = settings_from_options(given), list[Any]()
    check_configured_tenant(settings, tenant)
    if store_exists(settings.storage):
        with _webhooks(settings) as webhooks:
            found = list(webhooks.list(tenant))
    echo_result(as_json, {"webhooks": [each.to_dict() for each in found]}, list_text(found))


@webhook_group.command("show", epilog="Example: chalk-flask webhook show wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def show(webhook_id: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Show a webhook, how many deliveries it has by state, and its last attempts."""
    with _existing(given, webhook_id, tenant) as webhooks:
        webhook, history = webhooks.show(tenant, webhook_id)
    echo_result(as_json, webhook.to_dict() | history.to_dict(), show_text(webhook, history))


@webhook_group.command("pause", epilog="Example: chalk-flask webhook pause wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def pause(webhook_id: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Send nothing for now; what there is to be told is kept for later."""
    with _existing(given, webhook_id, tenant) as webhooks:
        webhook = webhooks.pause(tenant, webhook_id)
    echo_result(as_json, webhook.to_dict(), f"Paused {webhook.id}: what changes is kept until `webhook resume`.")


@webhook_group.command("resume", epilog="Example: chalk-flask webhook resume wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def resume(webhook_id: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Send again to a webhook that is paused or disabled; what waits is due at once."""
    with _existing(given, webhook_id, tenant) as webhooks:
        webhook, waiting = webhooks.resume(tenant, webhook_id)
    echo_result(
        as_json, webhook.to_dict() | {"waiting": waiting}, f"Resumed {webhook.id}; waiting deliveries: {waiting}."
    )


@webhook_group.command("rotate", epilog="Example: chalk-flask webhook rotate ID --overlap 48h")
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--overlap",
    default="24h",
    callback=duration_or_zero,
    metavar="SPAN",
    help="How long the former secret signs too: 30m, 24h, 7d; 0s ends it now.  [default: 24h]",
)
@tenant_option
@as_json_option
@settings_options("data")
def rotate(webhook_id: str, overlap: timedelta, tenant: str, as_json: bool, **given: Any) -> None:
    """Give a webhook a new secret and show it, once. During the overlap deliveries carry two signatures."""
    with _existing(given, webhook_id, tenant) as webhooks:
        secret, webhook = webhooks.rotate(tenant, webhook_id, overlap)
    echo_result(as_json, *rotated_text(webhook, secret))


@webhook_group.command("test", epilog="Example: chalk-flask webhook test wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options("data", "webhook_allowed_hosts")
def test(webhook_id: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Send the event webhook.test now, whatever the state of the webhook, and say what came of it.

    It ends with 1 unless the answer is 2xx.
    """
    from chalk_flask.webhooks.http.client import WebhookClient
    from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard

    with _existing(given, webhook_id, tenant) as webhooks:
        poster = WebhookClient(SsrfGuard(settings_from_options(given).webhook_allowed_hosts.split(",")))
        try:
            delivery = webhooks.test(tenant, webhook_id, poster)
        finally:
            poster.close()
    echo_result(as_json, delivery.to_dict(), attempt_text(delivery))
    if delivery.state != "delivered":
        raise click.exceptions.Exit(1)


NONE = " What there is waits already, or may not be told any more."


@webhook_group.command("replay", epilog="Example: chalk-flask webhook replay ID --since 2d")
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--since",
    callback=timestamp_or_age,
    metavar="MOMENT",
    help="What was told since 2026-01-31 (UTC), or for 30m, 12h, 7d.",
)
@click.option("--id", "event_id", metavar="EVENT", help="One event, by its id.")
@tenant_option
@as_json_option
@settings_options()
def replay(
    webhook_id: str, since: datetime | None, event_id: str | None, tenant: str, as_json: bool, **given: Any
) -> None:
    """Deliver again what was delivered or given up, with the same ids and bytes. Deliveries are kept for 30 days."""
    if (since is None) == (event_id is None):
        raise click.UsageError("say what is to be delivered again: --since or --id, one of the two")
    with _existing(given, webhook_id, tenant) as webhooks:
        count = webhooks.replay(tenant, webhook_id, since=since, event_id=event_id)
    echo_result(
        as_json, {"id": webhook_id, "replayed": count}, f"To be delivered again: {count}.{'' if count else NONE}"
    )


@webhook_group.command("delete", epilog="Example: chalk-flask webhook delete wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def delete(webhook_id: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Delete a webhook with all that was or is to be sent to it."""
    with _existing(given, webhook_id, tenant) as webhooks:
        webhook, removed = webhooks.delete(tenant, webhook_id)
    echo_result(
        as_json, webhook.to_dict() | {"deliveries": removed}, f"Deleted {webhook.id} and its deliveries: {removed}."
    )


@contextmanager
def _webhooks(settings: Settings) -> Iterator[WebhookStore]:
    from chalk_flask.auth.secrets.encryption import SecretCipher
    from chalk_flask.webhooks import WebhookError, WebhookStore
    from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard

    with open_configured_store(settings) as store:
        try:
            yield WebhookStore(store, SecretCipher(settings.data), SsrfGuard(settings.webhook_allowed_hosts.split(",")))
        except WebhookError as error:
            raise CommandError(str(error)) from error


@contextmanager
def _existing(given: dict[str, Any], webhook_id: str, tenant: str) -> Iterator[WebhookStore]:
    """The webhooks of a store, which is not made for that."""
    from backends import store_exists

    settings = settings_from_options(given)
    if not store_exists(settings.storage):
        raise CommandError(f"there is no webhook with the id {webhook_id!r}: nothing is stored yet")
    check_configured_tenant(settings, tenant)
    with _webhooks(settings) as webhooks:
        yield webhooks


def _root(settings: Settings) -> str:
    from chalk_flask.api.routes import ROOTS

    return settings.public_url + next(root.path for root in ROOTS if root.name == "chalk")
