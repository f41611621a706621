"""`chalk-flask webhook`: create, list, show, pause, resume, test, replay and delete webhooks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.commands.webhook_formatting import attempt_text, created_text, list_text, rotated_text, show_text
from chalk_flask.cli.credentials import (
    has_worker,
    open_credentials,
    overlap_option,
    settings_for_new,
)
from chalk_flask.cli.durations import TIMESTAMP_OR_AGE
from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    settings_from_options,
    settings_options,
    tenant_option,
)

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.settings import Settings
    from chalk_flask.webhooks import SsrfGuard, WebhookStore

__all__ = ["webhook_group"]

EVENT_HELP = "Event to send: user.created, user.*, *.deleted, sync.completed. Can be repeated.  [default: all]"
ENTITY_HELP = (
    "Type of record: user, enrollment, academicSession... Can be repeated.  [default: all except demographics, which"
    " must be named]"
)
ORG_HELP = "Send only records of this org (sourcedId). Can be repeated.  [default: all orgs]"
EXCLUDE_HELP = "Field to leave out, also as a change: email, user.email, metadata.note. Can be repeated."
MODE_HELP = "One delivery per import, or one per record."


@click.group("webhook", short_help="Manage webhooks.")
def webhook_group() -> None:
    """Manage webhooks: URLs to which changes are posted, signed according to Standard Webhooks.

    `chalk-flask serve` or `chalk-flask worker` sends the deliveries. The documentation has a guide for receivers.
    """


@webhook_group.command(
    "create", epilog="Example: chalk-flask webhook create --url https://tool.example.org/hooks --event 'user.*'"
)
@click.option("--url", required=True, help="URL of the receiver: https, and a public address unless allowed.")
@click.option("--label", default="", help="Name of the receiver, shown in the list.")
@click.option("--event", "events", multiple=True, metavar="EVENT", help=EVENT_HELP)
@click.option("--entity", "entities", multiple=True, metavar="ENTITY", help=ENTITY_HELP)
@click.option("--org", "orgs", multiple=True, metavar="ID", help=ORG_HELP)
@click.option("--exclude", "excluded", multiple=True, metavar="FIELD", help=EXCLUDE_HELP)
@click.option("--mode", type=click.Choice(["batched", "per_entity"]), default="batched", help=MODE_HELP)
@click.option("--full", is_flag=True, help="Include the full records, not only ids.")
@click.option("--initial", is_flag=True, help="Send each record of a first import too, not only its end.")
@tenant_option
@as_json_option
@settings_options("data", "public_url", "webhook_allowed_hosts")
def create(tenant: str, as_json: bool, **options: Any) -> None:
    """Create a webhook and show its secret once. The store keeps it encrypted.

    By default the webhook receives all changes except demographics, as ids, in one delivery per import. Hrefs in full
    records start with the present public_url.
    """
    from chalk_flask.webhooks import WebhookRequest

    values = {name: options.pop(name) for name in WebhookRequest.__slots__ if name != "root"}
    settings = settings_for_new(options, tenant)
    with _webhook_store(settings) as webhooks:
        created = webhooks.create(tenant, WebhookRequest(**values, root=_root_url(settings)))
    for org in created.unknown_orgs:
        click.echo(f"Note: the tenant {tenant} has no org {org!r} yet.", err=True)
    _note_allowed_hosts(settings, created.subscription.url)
    echo_result(
        as_json,
        created.subscription.to_dict() | {"secret": created.secret},
        created_text(created.subscription, created.secret),
    )


@webhook_group.command("list", epilog="Example: chalk-flask webhook list --json")
@tenant_option
@as_json_option
@settings_options("data")
def list_webhooks(tenant: str, as_json: bool, **options: Any) -> None:
    """List the webhooks of a tenant, oldest first, without their secrets. Warns if no process sends the deliveries."""
    settings = settings_from_options(options)
    check_configured_tenant(settings, tenant)
    with _webhook_store(settings) as webhooks:
        records = list(webhooks.list(tenant))
    is_working = has_worker(settings, "webhooks") if records else None
    data = {"webhooks": [webhook.to_dict() for webhook in records], "worker": is_working}
    echo_result(as_json, data, list_text(records))
    _warn_without_worker(is_working)


@webhook_group.command(
    "show",
    short_help="Show a webhook and its latest attempts.",
    epilog="Example: chalk-flask webhook show wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f",
)
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options("data")
def show(webhook_id: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Show a webhook, its number of deliveries by state, and its latest attempts.

    Warns if no process sends the deliveries.
    """
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        webhook, history = webhooks.show(tenant, webhook_id)
    is_working = has_worker(settings_from_options(options), "webhooks")
    echo_result(as_json, webhook.to_dict() | history.to_dict() | {"worker": is_working}, show_text(webhook, history))
    _warn_without_worker(is_working)


@webhook_group.command("pause", epilog="Example: chalk-flask webhook pause wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def pause(webhook_id: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Pause a webhook. Changes are queued until it is resumed."""
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        webhook = webhooks.pause(tenant, webhook_id)
    echo_result(as_json, webhook.to_dict(), f"Paused {webhook.id}. Changes are queued until `webhook resume`.")


@webhook_group.command("resume", epilog="Example: chalk-flask webhook resume wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def resume(webhook_id: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Resume a paused or disabled webhook. Pending deliveries are sent at once."""
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        webhook, waiting = webhooks.resume(tenant, webhook_id)
    echo_result(
        as_json, webhook.to_dict() | {"waiting": waiting}, f"Resumed {webhook.id}. Pending deliveries: {waiting}."
    )


@webhook_group.command("rotate", epilog="Example: chalk-flask webhook rotate ID --overlap 48h")
@click.argument("webhook_id", metavar="ID")
@overlap_option("Time in which the former secret signs too: 30m, 24h, 7d; 0s ends it now.")
@tenant_option
@as_json_option
@settings_options("data")
def rotate(webhook_id: str, overlap: timedelta, tenant: str, as_json: bool, **options: Any) -> None:
    """Create a new secret for a webhook and show it once. During the overlap deliveries carry two signatures."""
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        secret, webhook = webhooks.rotate(tenant, webhook_id, overlap)
    echo_result(as_json, *rotated_text(webhook, secret))


@webhook_group.command(
    "test",
    short_help="Send a test event now, and print the result.",
    epilog="Example: chalk-flask webhook test wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f",
)
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options("data", "webhook_allowed_hosts")
def test(webhook_id: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Send a test event (webhook.test) now, in any state of the webhook, and print the result.

    The exit code is 1 unless the response is 2xx.
    """
    from chalk_flask.webhooks import WebhookClient

    settings = settings_from_options(options)
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        client = WebhookClient(_guard(settings))
        try:
            delivery = webhooks.test(tenant, webhook_id, client)
        finally:
            client.close()
        url = webhooks.show(tenant, webhook_id)[0].url
    _note_allowed_hosts(settings, url)
    echo_result(as_json, delivery.to_dict(), attempt_text(delivery))
    if delivery.state != "delivered":
        raise click.exceptions.Exit(1)


NOTHING_TO_REPLAY = (
    " All deliveries are pending already, or cannot be sent any more. `chalk-flask webhook resume {id}` sends pending"
    " ones now."
)


@webhook_group.command("replay", epilog="Example: chalk-flask webhook replay ID --since 2d")
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--since",
    type=TIMESTAMP_OR_AGE,
    metavar="TIME",
    help="Deliveries since 2026-01-31 (UTC), or of the last 30m, 12h, 7d.",
)
@click.option("--id", "event_id", metavar="EVENT", help="One event, by its id.")
@tenant_option
@as_json_option
@settings_options()
def replay(
    webhook_id: str, since: datetime | None, event_id: str | None, tenant: str, as_json: bool, **options: Any
) -> None:
    """Send deliveries again, with the same ids and bytes. Deliveries are deleted after 30 days.

    `chalk-flask tenant set --delivery-days` changes the 30 days.
    """
    if (since is None) == (event_id is None):
        raise click.UsageError("deliveries to replay are required: give --since or --id, one of them")
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        count = webhooks.replay(tenant, webhook_id, since=since, event_id=event_id)
    echo_result(
        as_json,
        {"id": webhook_id, "replayed": count},
        f"Queued deliveries: {count}.{'' if count else NOTHING_TO_REPLAY.format(id=webhook_id)}",
    )


@webhook_group.command("delete", epilog="Example: chalk-flask webhook delete wh-5f0c6a91-d2b3-4478-9c1e-7a6b5c4d3e2f")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@as_json_option
@settings_options()
def delete(webhook_id: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Delete a webhook with its deliveries."""
    with _existing_webhook(options, webhook_id, tenant) as webhooks:
        webhook, removed = webhooks.delete(tenant, webhook_id)
    echo_result(
        as_json, webhook.to_dict() | {"deliveries": removed}, f"Deleted {webhook.id} and its deliveries: {removed}."
    )


def _warn_without_worker(is_working: bool | None) -> None:
    if is_working is False:
        text = "No process sends the deliveries, so they wait. Start `chalk-flask serve` or `chalk-flask worker`."
        click.echo(complete_hints(text), err=True)


def _note_allowed_hosts(settings: Settings, url: str) -> None:
    """Print what the processes that send deliveries need, if this command may use a URL only because of a setting."""
    from chalk_flask.webhooks import ForbiddenTargetError

    try:
        is_needed = _guard(settings).uses_allowlist(url)
    except ForbiddenTargetError:  # the result of the command says so
        return
    if is_needed:
        value = shlex.quote(settings.webhook_allowed_hosts)
        click.echo(
            "Note: the setting webhook_allowed_hosts of this command allows the host of this webhook. `chalk-flask"
            " serve` and `chalk-flask worker` do not know it: they deliver only if they run with"
            f" CHALK_WEBHOOK_ALLOWED_HOSTS={value} too.",
            err=True,
        )


def _guard(settings: Settings) -> SsrfGuard:
    from chalk_flask.webhooks import SsrfGuard

    return SsrfGuard(settings.webhook_allowed_hosts.split(","))


def _webhook_store(settings: Settings) -> AbstractContextManager[WebhookStore]:
    from chalk_flask.auth.secrets.encryption import SecretCipher
    from chalk_flask.webhooks import WebhookError, WebhookStore

    def create_store(store: Backend) -> WebhookStore:
        return WebhookStore(store, SecretCipher(settings.data), _guard(settings))

    return open_credentials(settings, create_store, WebhookError)


@contextmanager
def _existing_webhook(options: dict[str, Any], webhook_id: str, tenant: str) -> Iterator[WebhookStore]:
    settings = settings_from_options(options)
    check_configured_tenant(settings, tenant)
    with _webhook_store(settings) as webhooks:
        yield webhooks


def _root_url(settings: Settings) -> str:
    from chalk_flask.api.routes import ROOTS

    return settings.public_url + next(root.path for root in ROOTS if root.name == "chalk")
