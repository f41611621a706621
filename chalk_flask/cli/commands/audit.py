"""`chalk-flask audit`: show the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.durations import timestamp_or_age
from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
)

if TYPE_CHECKING:
    from chalk_flask.settings import Settings

__all__ = ["audit_command"]


@click.command(
    "audit",
    short_help="Show the audit log: changes, logins and reads.",
    epilog="Example: chalk-flask audit --since 7d --tenant north",
)
@click.option(
    "--since",
    callback=timestamp_or_age,
    metavar="TIME",
    help="Show events since 2026-01-31 (UTC), or of the last 30m, 12h, 7d.  [default: all]",
)
@click.option("--tenant", metavar="NAME", help="Show events of this tenant only.  [default: all tenants]")
@as_json_option
@settings_options("data")
def audit_command(since: datetime | None, tenant: str | None, as_json: bool, **options: Any) -> None:
    """Show changes, logins, failed logins and reads, oldest first.

    Changes and logins are in the store, reads of the last `audit_days` days in the folder `data`. An event contains
    ids, labels and counts. It never contains a secret, a name, or a value of a record or parameter.
    """
    settings = settings_from_options(options)
    if tenant is not None:
        check_configured_tenant(settings, tenant)
    with ExitStack() as stack:
        events = _read_events(stack, settings, since, tenant)
        if as_json:
            echo_result(as_json, {"entries": list(events)}, "")
            return
        count = 0
        for count, event in enumerate(events, 1):  # noqa: B007 - the last value is the number of events
            click.echo(_event_text(event))
        if not count:
            click.echo("There are no events.", err=True)


def _read_events(
    stack: ExitStack, settings: Settings, since: datetime | None, tenant: str | None
) -> Iterator[dict[str, Any]]:
    from chalk_flask.audit.timeline import read_timeline
    from chalk_flask.tenants.store import TenantStore
    from chalk_flask.times import format_precise_timestamp

    store = stack.enter_context(open_configured_store(settings))
    tenants = [tenant] if tenant is not None else [record.name for record in TenantStore(store).list()]
    earliest = format_precise_timestamp(since) if since else ""
    return read_timeline(store, Path(settings.data) / "reads", tenants, earliest, tenant=tenant)


def _event_text(event: dict[str, Any]) -> str:
    """Return an event as one line: time, tenant, event and the other values by name."""
    from chalk_flask.roster.package.problems import to_one_line

    columns = [str(event.get(name, "-")) for name in ("time", "tenant", "event")]
    values = [
        f"{name}={_value_text(value)}" for name, value in event.items() if name not in ("time", "tenant", "event")
    ]
    return to_one_line("  ".join([*columns, " ".join(values)]))


def _value_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = "-" if value is None else str(value)
    return f'"{text}"' if " " in text else text
