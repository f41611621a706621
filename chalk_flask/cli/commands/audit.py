"""`chalk-flask audit`: show the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chalk_flask.cli.durations import TIMESTAMP_OR_AGE
from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
)

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.settings import Settings

__all__ = ["audit_command"]

MAX_EVENTS = 100_000
"""Maximum of --limit. So many events are in memory at once."""


def _event_name(ctx: click.Context, option: click.Parameter, name: str | None) -> str:
    """Return the name of an event, an empty text for none. Raises BadParameter for an unknown one."""
    from chalk_flask.audit.events import EVENTS
    from chalk_flask.audit.latest import READ
    from chalk_flask.names import suggestion_or_list

    names = sorted({READ, *EVENTS})
    if name is not None and name not in names:
        raise click.BadParameter(f"there is no event {name[:80]!r}; {suggestion_or_list(name, names, 'events')}")
    return name or ""


@click.command(
    "audit",
    short_help="Show the audit log: changes, logins and reads.",
    epilog="Example: chalk-flask audit --since 7d --tenant north",
)
@click.option(
    "--since",
    type=TIMESTAMP_OR_AGE,
    metavar="TIME",
    help="Show events since 2026-01-31 (UTC), or of the last 30m, 12h, 7d.  [default: all]",
)
@click.option(
    "--until",
    type=TIMESTAMP_OR_AGE,
    metavar="TIME",
    help="Show events before 2026-01-31 (UTC), or older than 30m, 12h, 7d.  [default: all]",
)
@click.option("--event", metavar="NAME", callback=_event_name, help="Show events of this name only, such as read.")
@click.option("--limit", type=click.IntRange(1, MAX_EVENTS), metavar="NUMBER", help="Show the newest events only.")
@click.option("--tenant", metavar="NAME", help="Show events of this tenant only.  [default: all tenants]")
@as_json_option
@settings_options("data")
def audit_command(
    since: datetime | None,
    until: datetime | None,
    event: str,
    limit: int | None,
    tenant: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show changes, logins, failed logins and reads, oldest first. Events of a change name its author in `by`.

    Changes and logins are in the store, reads of the last `audit_days` days in the folder `data`. An event contains
    ids, labels and counts. It never contains a secret, a name, or a value of a record or parameter.
    """
    settings = settings_from_options(options)
    if tenant is not None:
        check_configured_tenant(settings, tenant)
    with ExitStack() as stack:
        store = stack.enter_context(open_configured_store(settings))
        events = _read_events(store, settings, tenant, _Selection(_to_text(since), _to_text(until), event), limit)
        if as_json:
            echo_result(as_json, {"entries": list(events)}, "")
            return
        count = 0
        for count, each in enumerate(events, 1):  # noqa: B007 - the last value is the number of events
            click.echo(_event_text(each))
        if not count:
            click.echo("There are no events.", err=True)


class _Selection(NamedTuple):
    """Events that the caller wants: time of the first, time after the last, and name. Empty texts select all."""

    since: str
    until: str
    event: str


def _read_events(
    store: Backend, settings: Settings, tenant: str | None, selection: _Selection, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Yield the selected events, oldest first. With a limit, these are the newest ones."""
    from chalk_flask.audit.latest import read_latest
    from chalk_flask.audit.timeline import read_timeline
    from chalk_flask.tenants.store import TenantStore

    tenants = [tenant] if tenant is not None else [record.name for record in TenantStore(store).list()]
    reads = Path(settings.data) / "reads"
    if limit is None:
        return read_timeline(store, reads, tenants, tenant=tenant, **selection._asdict())
    latest = read_latest(store, reads, tenants, **selection._asdict())
    newest = islice((each for each in latest if tenant is None or each.get("tenant", tenant) == tenant), limit)
    return iter([*newest][::-1])


def _to_text(time: datetime | None) -> str:
    from chalk_flask.times import format_precise_timestamp

    return format_precise_timestamp(time) if time else ""


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
