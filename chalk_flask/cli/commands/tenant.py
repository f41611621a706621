"""`chalk-flask tenant`: districts that share a service are created, listed, shown, changed and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.formatting import format_table
from chalk_flask.cli.options import (
    DEFAULT_TENANT,
    as_json_option,
    open_configured_store,
    settings_from_options,
    settings_options,
)

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.settings import Settings
    from chalk_flask.tenants.store import DeletedTenant, Tenant, TenantStore, TenantSummary

__all__ = ["tenant_group"]


@click.group("tenant", short_help="Create, list, show, change and delete tenants.")
def tenant_group() -> None:
    """Keep several districts apart in one service: each tenant has its own roster and its own tokens.

    The tenant default always exists. Whoever has one district needs no other.
    """


@tenant_group.command("create", epilog="Example: chalk-flask tenant create north-valley --demographics")
@click.argument("name", metavar="NAME")
@click.option("--demographics", is_flag=True, help="Serve demographics to those whose scopes allow it.")
@as_json_option
@settings_options()
def create(name: str, demographics: bool, as_json: bool, **given: Any) -> None:
    """Create a tenant without a roster.

    A name has 1 to 64 letters (a to z, A to Z), digits, '-', '_' and '.', and begins with a letter or a digit.
    """
    from chalk_flask.tenants.store import validate_new_name

    with _refusing():
        validate_new_name(name)
    with _tenants(settings_from_options(given), writes=True) as tenants:
        made = tenants.create(name, demographics)
    follow = f"Now give it a roster: chalk-flask import PATH --tenant {name}"
    echo_result(as_json, made.to_dict(), f"Created the tenant {name}.\n{_opted(made)}\n{follow}")


@tenant_group.command("list", epilog="Example: chalk-flask tenant list --json")
@as_json_option
@settings_options()
def list_tenants(as_json: bool, **given: Any) -> None:
    """List the tenants by name."""
    with _tenants(settings_from_options(given)) as tenants:
        records = tenants.list()
    echo_result(as_json, {"tenants": [each.to_dict() for each in records]}, _table(records))


@tenant_group.command("show", epilog="Example: chalk-flask tenant show north-valley --json")
@click.argument("name", metavar="NAME")
@as_json_option
@settings_options()
def show(name: str, as_json: bool, **given: Any) -> None:
    """Show a tenant, how many active records it has, and how many tokens, clients and issuers.

    Tokens that were revoked or have expired are counted too.
    """
    with _tenants(settings_from_options(given)) as tenants:
        summary = tenants.show(name)
    echo_result(as_json, summary.to_dict(), _summary(summary))


def _limit(ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """A limit of the brake as it is stored; empty for the usual one."""
    from chalk_flask.roster.imports.thresholds import parse_threshold

    if text is None or text.strip().lower() == "default":
        return None if text is None else ""
    try:
        limit = parse_threshold(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or default") from None
    if limit and limit.percent > 100:
        raise click.BadParameter(f"{text!r} would never hold anything: give 100 % at most, or off")
    return str(limit or "off")


@tenant_group.command("set", epilog="Example: chalk-flask tenant set north-valley --max-deleted 5%,20")
@click.argument("name", metavar="NAME")
@click.option(
    "--demographics/--no-demographics",
    default=None,
    help="Whether demographics are served to those whose scopes allow it.",
)
@click.option(
    "--max-deleted",
    metavar="PERCENT,RECORDS",
    callback=_limit,
    help="Hold imports that delete more than this share of a file's stored records and more than so many; or off, or"
    " default: 10%,10.",
)
@click.option(
    "--max-changed",
    metavar="PERCENT,RECORDS",
    callback=_limit,
    help="Hold imports that create, update, delete or revive more than this share of a file of which more than so many"
    " records are stored; or off, or default: 75%,100.",
)
@as_json_option
@settings_options()
def change(name: str, as_json: bool, config: str | None, storage: str | None, **changes: Any) -> None:
    """Change a tenant; every process that uses the store heeds it from the next request or import on.

    Without demographics no webhook is told of them any more, and what waits to be sent loses them.
    """
    from chalk_flask.outbox.opt_out import update_tenant

    if all(value is None for value in changes.values()):
        raise click.UsageError("say what to change: --demographics, --no-demographics, --max-deleted or --max-changed")
    settings = settings_from_options({"config": config, "storage": storage})
    # Only the default tenant can be changed before there is a store.
    with _stored(settings, writes=name == DEFAULT_TENANT) as store:
        changed = update_tenant(store, name, **changes)
    echo_result(as_json, changed.to_dict(), "\n".join([_opted(changed), *_limits(changed)]))


@tenant_group.command("delete", epilog="Example: chalk-flask tenant delete north-valley --yes")
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask for the name to be typed again.")
@as_json_option
@settings_options("data")
def delete(name: str, yes: bool, as_json: bool, **given: Any) -> None:
    """Erase a tenant: its roster, its gradebook, its tokens, clients and issuers, and the packages that are held for it
    below `data`. There is no way back.

    Its credentials end first. Should the command be stopped after that, the same command erases the rest.
    """
    if as_json and not yes:
        raise click.UsageError("--json does not ask: say --yes")
    from chalk_flask.roster.imports.held_files import remove_tenant, store_folder

    settings = settings_from_options(given)
    with _tenants(settings) as tenants:
        tenants.check_deletable(name)
        if not yes:
            _confirm(name)
        # First, since a delete that is stopped may be finished without this; then once no import can hold anything.
        remove_tenant(store_folder(settings), name)
        erased = tenants.delete(name)
        remove_tenant(store_folder(settings), name)
    echo_result(as_json, erased.to_dict(), _told(erased))


@contextmanager
def _tenants(settings: Settings, writes: bool = False) -> Iterator[TenantStore]:
    """The tenants of the store."""
    from chalk_flask.tenants.store import TenantStore

    with _stored(settings, writes) as store:
        yield TenantStore(store)


@contextmanager
def _stored(settings: Settings, writes: bool = False) -> Iterator[Backend]:
    """The store. One that does not exist is made only for a command that `writes`; else it is empty."""
    from backends import backend_class, open_store, store_exists
    from chalk_flask.storage import COLLECTIONS

    if writes and not backend_class(settings.storage).durable:
        raise CommandError(f"{settings.storage} keeps nothing once this command ends: name another --storage")
    there = writes or store_exists(settings.storage)
    with _refusing(), open_configured_store(settings) if there else open_store("memory:", COLLECTIONS) as store:
        yield store


@contextmanager
def _refusing() -> Iterator[None]:
    from chalk_flask.tenants.store import TenantError

    try:
        yield
    except TenantError as error:
        raise CommandError(str(error)) from error


def _confirm(name: str) -> None:
    """Raises Refused unless the name is typed."""
    try:
        typed = click.prompt(f"This erases all of the tenant {name}. Type its name to go on", err=True)
    except click.Abort as error:
        raise CommandError(
            f"nothing is deleted: type the name of the tenant {name!r} when asked, or say --yes"
        ) from error
    if typed != name:
        raise CommandError(f"nothing is deleted: {typed[:80]!r} is not the name of the tenant, which is {name!r}")


def _opted(tenant: Tenant) -> str:
    served = "are served to those whose scopes allow it" if tenant.demographics else "are not served to anybody"
    return f"Demographics of the tenant {tenant.name} {served}."


def _limits(tenant: Tenant) -> list[str]:
    """What of an import is held, a line for each limit."""
    from chalk_flask.roster.imports.thresholds import CHANGED, DELETED

    return [
        f"max deleted   {tenant.max_deleted or f'{DELETED} (default)'}",
        f"max changed   {tenant.max_changed or f'{CHANGED} (default)'}",
    ]


def _table(records: Iterable[Tenant]) -> str:
    rows = [(each.name, each.created or "always there", "yes" if each.demographics else "no") for each in records]
    return format_table(("NAME", "CREATED", "DEMOGRAPHICS"), rows)


def _summary(summary: TenantSummary) -> str:
    tenant = summary.tenant
    lines = [
        f"name          {tenant.name}",
        f"created       {tenant.created or 'always there'}",
        f"demographics  {'yes' if tenant.demographics else 'no'}",
        *_limits(tenant),
        f"records       {_amounts(summary.records) or 'no active records'}",
        *(f"{kind:<14}{number}" for kind, number in summary.credentials.items()),
    ]
    return "\n".join(lines)


def _told(erased: DeletedTenant) -> str:
    return f"Erased the tenant {erased.name}: {_amounts({'records': erased.records, **erased.credentials})}."


def _amounts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())
