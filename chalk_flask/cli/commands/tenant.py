"""`chalk-flask tenant`: create, list, show, change and delete tenants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import (
    as_json_option,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_errors,
)
from chalk_flask.cli.package_import import invalid_rows_option, lenient_option
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from chalk_flask.settings import Settings
    from chalk_flask.tenants.store import DeletedTenant, Tenant, TenantStore, TenantSummary

__all__ = ["tenant_group"]


@click.group("tenant", short_help="Create, list, show, change and delete tenants.")
def tenant_group() -> None:
    """Serve several districts separately: each tenant has its own roster and credentials.

    The tenant default always exists. For one district you need no other tenant.
    """


@tenant_group.command("create", epilog="Example: chalk-flask tenant create north-valley --demographics")
@click.argument("name", metavar="NAME")
@click.option("--demographics", is_flag=True, help="Serve demographics to credentials with that scope.")
@as_json_option
@settings_options()
def create(name: str, demographics: bool, as_json: bool, **options: Any) -> None:
    """Create a tenant without a roster.

    A name starts with a letter or a digit. It has 1 to 64 characters: letters (a to z, A to Z), digits, '-', '_', '.'.
    """
    from chalk_flask.tenants.store import validate_new_name

    with tenant_errors():
        validate_new_name(name)
    with _tenant_store(settings_from_options(options)) as tenants:
        tenant = tenants.create(name, demographics)
    next_step = complete_hints(f"Import its roster: chalk-flask import PATH --tenant {name}")
    echo_result(as_json, tenant.to_dict(), f"Created the tenant {name}.\n{_demographics_text(tenant)}\n{next_step}")


@tenant_group.command("list", epilog="Example: chalk-flask tenant list --json")
@as_json_option
@settings_options()
def list_tenants(as_json: bool, **options: Any) -> None:
    """List the tenants by name."""
    with _tenant_store(settings_from_options(options)) as tenants:
        records = tenants.list()
    echo_result(as_json, {"tenants": [record.to_dict() for record in records]}, _table(records))


@tenant_group.command(
    "show",
    short_help="Show a tenant, its rules and its numbers of records.",
    epilog="Example: chalk-flask tenant show north-valley --json",
)
@click.argument("name", metavar="NAME")
@as_json_option
@settings_options()
def show(name: str, as_json: bool, **options: Any) -> None:
    """Show a tenant and its numbers of active records, tokens, clients, issuers and administrators.

    Revoked and expired tokens are included.
    """
    with _tenant_store(settings_from_options(options)) as tenants:
        summary = tenants.summarize(name)
    echo_result(as_json, summary.to_dict(), _summary_text(summary))


def _parse_threshold_option(ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Return a change threshold as it is stored; an empty text for the default."""
    from chalk_flask.roster.imports.thresholds import normalize_threshold, parse_threshold

    try:
        if text == "":  # most likely an unset variable of a script
            parse_threshold(text)
        return None if text is None else normalize_threshold(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or default") from None


def _parse_days_option(ctx: click.Context, option: click.Parameter, text: str | None) -> int | str | None:
    """Return a retention period in days; an empty text for the default."""
    from chalk_flask.tenants.retention import PERIODS

    period = PERIODS[option.name or ""]
    try:
        if text == "":  # most likely an unset variable of a script
            raise ValueError(f"a number of days must be from {period.minimum} to {period.maximum}")
        days = None if text is None else period.parse(text)
        return "" if days is None and text is not None else days
    except ValueError as error:
        raise click.BadParameter(f"{error}, or default") from None


@tenant_group.command("set", epilog="Example: chalk-flask tenant set north-valley --max-deleted 5%,20")
@click.argument("name", metavar="NAME")
@click.option(
    "--demographics/--no-demographics",
    default=None,
    help="Serve demographics to credentials with that scope, or to none.",
)
@click.option(
    "--max-deleted",
    metavar="PERCENT,RECORDS",
    callback=_parse_threshold_option,
    help="Hold imports that delete more than this share and this number of a file's stored records; or off, or default"
    " (10%,10).",
)
@click.option(
    "--max-changed",
    metavar="PERCENT,RECORDS",
    callback=_parse_threshold_option,
    help="Hold imports that update or delete more than this share of a file with more than this number"
    " of stored records; or off, or default (75%,100).",
)
@lenient_option(
    "Accept deviations from the standard in packages, each with a warning, as `import --lenient` does, or reject them."
)
@click.option(
    "--max-quarantined",
    metavar="PERCENT,ROWS",
    callback=_parse_threshold_option,
    help="Hold imports that quarantine more than this share and this number of a file's rows; or off, or default"
    " (1%,10).",
)
@invalid_rows_option("What imports do with invalid rows: reject the package, or set them aside and apply the others.")
@click.option(
    "--tombstone-days",
    metavar="DAYS",
    callback=_parse_days_option,
    help="Days for which a deleted record stays visible as tobedeleted, 90 or more; or default, the setting of the"
    " service.",
)
@click.option(
    "--delivery-days",
    metavar="DAYS",
    callback=_parse_days_option,
    help="Days for which finished deliveries of webhooks are stored, 1 to 365; or default (30).",
)
@click.option(
    "--history-days",
    metavar="DAYS",
    callback=_parse_days_option,
    help="Days for which the console shows how records changed, with their former values; 0 for no change history; or"
    " default, the setting of the service.",
)
@as_json_option
@settings_options()
def change(name: str, as_json: bool, config: str | None, storage: str | None, **changes: Any) -> None:
    """Change a tenant. Every process that uses the store applies the change from the next request or import on.

    With --no-demographics webhooks receive no demographics any more, and pending deliveries lose them.
    """
    from chalk_flask.outbox.tenant_update import update_tenant

    if all(value is None for value in changes.values()):
        raise click.UsageError(
            "a change is required: give --demographics, --no-demographics, --max-deleted, --max-changed,"
            " --max-quarantined, --invalid-rows, --lenient, --no-lenient, --tombstone-days, --delivery-days or"
            " --history-days"
        )
    settings = settings_from_options({"config": config, "storage": storage})
    with open_configured_store(settings) as store:
        changed = update_tenant(store, name, **changes)
    echo_result(as_json, changed.to_dict(), "\n".join([_demographics_text(changed), *_setting_lines(changed)]))


@tenant_group.command(
    "delete",
    short_help="Delete a tenant with all its records and files.",
    epilog="Example: chalk-flask tenant delete north-valley --yes",
)
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json_option
@settings_options("data")
def delete(name: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Delete a tenant: its roster, gradebook, credentials, administrators, jobs and packages. This cannot be undone.

    Credentials and administrators are deleted first. If the command is interrupted, the service deletes the rest. If
    no service runs, run the command again.
    """
    if as_json and not yes:
        raise click.UsageError("--json requires --yes, because it cannot ask for confirmation")
    from chalk_flask.jobs.tenant_deletion import delete_tenant
    from chalk_flask.tenants.store import TenantStore

    settings = settings_from_options(options)
    with open_configured_store(settings) as store:
        TenantStore(store).check_deletable(name)
        if not yes:
            _confirm(name)
        deleted = delete_tenant(store, settings, name)
    echo_result(as_json, deleted.to_dict(), _deleted_text(deleted))


@contextmanager
def _tenant_store(settings: Settings) -> Iterator[TenantStore]:
    from chalk_flask.tenants.store import TenantStore

    with open_configured_store(settings) as store:
        yield TenantStore(store)


def _confirm(name: str) -> None:
    """Raise CommandError unless the operator types the name."""
    try:
        typed = click.prompt(f"This deletes the tenant {name} with all its data. Type its name to confirm", err=True)
    except click.Abort as error:
        raise CommandError(
            f"nothing was deleted: type the name of the tenant {name!r} to confirm, or use --yes"
        ) from error
    if typed != name:
        raise CommandError(f"nothing was deleted: {typed[:80]!r} is not the name of the tenant {name!r}")


def _demographics_text(tenant: Tenant) -> str:
    served = "are served to credentials with that scope" if tenant.demographics else "are not served"
    return f"Demographics of the tenant {tenant.name} {served}."


def _setting_lines(tenant: Tenant) -> list[str]:
    """Return a line for each setting of imports and each retention period."""
    from chalk_flask.outbox.delivery import RETENTION_DAYS
    from chalk_flask.roster.imports.thresholds import CHANGED, DELETED, QUARANTINED

    return [
        f"max deleted      {tenant.max_deleted or f'{DELETED} (default)'}",
        f"max changed      {tenant.max_changed or f'{CHANGED} (default)'}",
        f"lenient          {'yes' if tenant.lenient else 'no'}",
        f"max quarantined  {tenant.max_quarantined or f'{QUARANTINED} (default)'}",
        f"invalid rows     {tenant.invalid_rows or 'reject (default)'}",
        f"tombstones       {_days_text(tenant.tombstone_days, 'setting of the service')}",
        f"deliveries       {_days_text(tenant.delivery_days, f'{RETENTION_DAYS} days')}",
        f"history          {_days_text(tenant.history_days, 'setting of the service')}",
    ]


def _days_text(days: int | None, default: str) -> str:
    return f"{default} (default)" if days is None else f"{days} days"


def _table(records: Iterable[Tenant]) -> str:
    rows = [(record.name, record.created or "built in", "yes" if record.demographics else "no") for record in records]
    return format_table(("NAME", "CREATED", "DEMOGRAPHICS"), rows)


def _summary_text(summary: TenantSummary) -> str:
    tenant = summary.tenant
    lines = [
        f"name          {tenant.name}",
        f"created       {tenant.created or 'built in'}",
        f"demographics  {'yes' if tenant.demographics else 'no'}",
        *_setting_lines(tenant),
        f"records       {_counts_text(summary.records) or 'no active records'}",
        *(f"{kind:<13} {number}" for kind, number in summary.credentials.items()),
    ]
    return "\n".join(lines)


def _deleted_text(deleted: DeletedTenant) -> str:
    return f"Deleted the tenant {deleted.name}: {_counts_text({'records': deleted.records, **deleted.credentials})}."


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())
