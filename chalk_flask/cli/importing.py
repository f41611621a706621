"""`chalk-flask import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.edge import emit
from chalk_flask.cli.options import (
    IMPORTING,
    as_json_option,
    settings_of,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from chalk_flask.roster.opening import Rosters
    from chalk_flask.roster.report import Report
    from chalk_flask.settings import Settings

__all__ = ["import_command", "load_package"]


@click.command(
    "import",
    short_help="Load a OneRoster 1.1 CSV package.",
    epilog="Example: chalk-flask import district.zip --dry-run",
)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@tenant_option
@click.option("--dry-run", is_flag=True, help="Check the package and say what would change; change nothing.")
@as_json_option
@settings_options(*IMPORTING)
def import_command(path: Path, tenant: str, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Load a OneRoster 1.1 CSV package, a ZIP file or a folder.

    The whole package is checked first. When anything is wrong with it, all that is wrong is listed, nothing is changed
    and the exit code is 1. Records that the package no longer has are marked as deleted.
    """
    from chalk_flask.roster.opening import OpenedWhenWritten

    settings = settings_of(given)
    with OpenedWhenWritten(settings.storage) as store:
        report = load_package(store, settings, path, tenant, dry_run)
    emit(as_json, report.as_dict(), report.as_text())
    if report.state == "refused":
        raise click.exceptions.Exit(1)


def load_package(store: Rosters, settings: Settings, path: Path, tenant: str, dry_run: bool = False) -> Report:
    """Import a package and show the progress on a terminal."""
    from chalk_flask.roster.importing import Options, import_package

    with progress_line() as progress:
        return import_package(store, tenant, path, Options.of(settings), dry_run=dry_run, progress=progress)
