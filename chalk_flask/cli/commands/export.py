"""`chalk-flask export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_option,
)

__all__ = ["export_command"]


def _instant(ctx: click.Context, option: click.Parameter, text: str | None) -> str:
    """The instant that the option names, as `dateLastModified` is written; nothing without the option."""
    from chalk_flask.oneroster.vocabularies import parse_instant

    try:
        return parse_instant(text.strip())[0] if text is not None else ""
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither YYYY-MM-DDTHH:MM:SSZ nor YYYY-MM-DD") from None


def _writable(ctx: click.Context, argument: click.Parameter, path: Path) -> Path:
    """The path where a file can be, or is: the export takes its place, which a device or a pipe would not survive."""
    if path.exists() and not path.is_file():
        raise click.BadParameter(f"'{path}' is not a file: name a new one, or one to replace")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder '{path.parent}': make it, or name another")
    return path


@click.command(
    "export",
    short_help="Write the roster as a OneRoster 1.1 CSV package.",
    epilog="Example: chalk-flask export district.zip",
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), callback=_writable)
@tenant_option
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="Put an apostrophe before cells that a spreadsheet would take for formulas. For people only: read back, such a"
    " package says something else.",
)
@click.option(
    "--delta-since",
    "since",
    callback=_instant,
    metavar="INSTANT",
    help="Write what changed after this moment, as delta files: 2026-11-21T06:00:00Z, or a day.",
)
@as_json_option
@settings_options()
def export_command(path: Path, tenant: str, spreadsheet_safe: bool, since: str, as_json: bool, **given: Any) -> None:
    """Write the active records of a roster to a ZIP file, as a OneRoster 1.1 CSV bulk package.

    The file is readable by its owner alone, and replaces one of the same name once it is whole. Imported into an empty
    store it gives the same roster, and exported again the same bytes. Records that can be no row because they name what
    is deleted, such as the grades of a class that is gone, are left out, and their number is told. With --delta-since
    the package holds the changes alone, deletions too; imported into a copy from that moment or later it gives today's
    roster.
    """
    from backends import store_exists
    from chalk_flask.roster.export.exporter import export_package

    settings = settings_from_options(given)
    check_configured_tenant(settings, tenant)
    if not store_exists(settings.storage):
        raise CommandError(f"there is nothing to export: {settings.storage} does not exist yet")
    with open_configured_store(settings) as store, store.read(tenant) as snapshot:
        done = export_package(snapshot, tenant, path, since=since, spreadsheet_safe=spreadsheet_safe)
    echo_result(as_json, done.to_dict(), done.to_text())
