"""`chalk-flask audit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.param_types import timestamp_or_age

if TYPE_CHECKING:
    from chalk_flask.settings import Settings

__all__ = ["audit_command"]


@click.command(
    "audit", short_help="Show who changed and read what.", epilog="Example: chalk-flask audit --since 7d --tenant north"
)
@click.option(
    "--since",
    callback=timestamp_or_age,
    metavar="MOMENT",
    help="From 2026-01-31 (UTC) on, or for 30m, 12h, 7d.  [default: all]",
)
@click.option("--tenant", metavar="NAME", help="Whose.  [default: everybody's]")
@as_json_option
@settings_options("data")
def audit_command(since: datetime | None, tenant: str | None, as_json: bool, **given: Any) -> None:
    """Show what was changed, who got in or did not, and what was read, the oldest first.

    Changes and logins are kept in the store, reads in the folder `data` for as many days as `audit_days` says. An entry
    holds ids, labels and counts: never a secret, a name or a value of a record or a parameter.
    """
    settings = settings_from_options(given)
    if tenant is not None:
        check_configured_tenant(settings, tenant)
    with ExitStack() as stack:
        found = _entries(stack, settings, since, tenant)
        if as_json:
            echo_result(as_json, {"entries": list(found)}, "")
            return
        shown = 0
        for shown, entry in enumerate(found, 1):  # noqa: B007 - how many there were is asked below
            click.echo(_line(entry))
        if not shown:
            click.echo("Nothing is recorded.", err=True)


def _entries(
    stack: ExitStack, settings: Settings, since: datetime | None, tenant: str | None
) -> Iterator[dict[str, Any]]:
    from backends import store_exists
    from chalk_flask.audit.timeline import timeline
    from chalk_flask.tenants.store import TenantStore
    from chalk_flask.times import format_precise_timestamp

    store = stack.enter_context(open_configured_store(settings)) if store_exists(settings.storage) else None
    everyone = [each.name for each in TenantStore(store).list()] if store is not None and tenant is None else []
    tenants = [tenant] if tenant is not None else everyone
    earliest = format_precise_timestamp(since) if since else ""
    return timeline(store, Path(settings.data) / "reads", tenants, earliest, only=tenant)


def _line(entry: dict[str, Any]) -> str:
    """The entry in a line: when, whose, what, and the facts by name."""
    from chalk_flask.roster.package.problems import to_one_line

    first = [str(entry.get(name, "-")) for name in ("time", "tenant", "event")]
    facts = [f"{name}={_fact(fact)}" for name, fact in entry.items() if name not in ("time", "tenant", "event")]
    return to_one_line("  ".join([*first, " ".join(facts)]))


def _fact(fact: object) -> str:
    if isinstance(fact, list):
        return ",".join(map(str, fact))
    text = "-" if fact is None else str(fact)
    return f'"{text}"' if " " in text else text
