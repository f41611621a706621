"""`chalk-flask export`: write the roster as a CSV package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_option,
)

__all__ = ["export_command"]


def _parse_since(ctx: click.Context, option: click.Parameter, text: str | None) -> str:
    """Return the time of the option in the form of `dateLastModified`; an empty text without the option."""
    from chalk_flask.oneroster.vocabularies import parse_date_time

    try:
        return parse_date_time(text.strip())[0] if text is not None else ""
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: use YYYY-MM-DDTHH:MM:SSZ or YYYY-MM-DD") from None


def _check_path(ctx: click.Context, argument: click.Parameter, path: Path) -> Path:
    """Return the path of a file to create or replace. An export must not replace a device or a pipe."""
    if path == Path("-"):
        raise click.BadParameter("an export is written to a file, not to stdout: give the path of the file")
    if path.exists() and not path.is_file():
        raise click.BadParameter(f"'{path}' is not a file: give the path of a new file, or of a file to replace")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder '{path.parent}': create it, or give another path")
    return path


@click.command(
    "export",
    short_help="Write the roster as a OneRoster 1.1 CSV package.",
    epilog="Example: chalk-flask export district.zip",
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), callback=_check_path)
@tenant_option
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="Prefix cells that a spreadsheet would run as formulas with an apostrophe. For people only: an import of such"
    " a package would store the apostrophes.",
)
@click.option(
    "--delta-since",
    "since",
    callback=_parse_since,
    metavar="TIME",
    help="Write only changes after this time, as delta files: 2026-11-21T06:00:00Z, or 2026-11-21.",
)
@as_json_option
@settings_options()
def export_command(path: Path, tenant: str, spreadsheet_safe: bool, since: str, as_json: bool, **options: Any) -> None:
    """Write the active records of a roster to a ZIP file, as a OneRoster 1.1 CSV bulk package.

    The file is readable by its owner only. It replaces a file of the same name once it is complete. An import into an
    empty store restores the same roster, and another export has the same bytes. Records that refer to deleted records,
    such as results of a deleted class, are left out and counted. With --delta-since the package contains only changes
    and deletions; an import into a copy of that time or later restores today's roster.
    """
    from chalk_flask.roster.export.exporter import export_package

    settings = settings_from_options(options)
    check_configured_tenant(settings, tenant)
    with open_configured_store(settings) as store, store.read(tenant) as snapshot:
        result = export_package(snapshot, tenant, path, since=since, spreadsheet_safe=spreadsheet_safe)
    echo_result(as_json, result.to_dict(), result.to_text())
