"""`chalk-flask validate`: check a CSV package without a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    READING_SETTINGS,
    SettingsCommand,
    as_json_option,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.package_import import package_name
from chalk_flask.cli.progress import progress_line

__all__ = ["validate_command"]

DEFAULT_PROFILE = "default"
PROFILES = ("strict", "lenient")


@click.command(
    "validate",
    cls=SettingsCommand,
    short_help="Check a CSV package without a store.",
    epilog="Example: chalk-flask validate district.zip --html report.html",
)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    help="Check as `import --lenient` or `import --strict` does.  [default: as `import` without these options]",
)
@click.option(
    "--html",
    "html_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report as one HTML file, for the vendor of the exporting system.",
)
@as_json_option
@settings_options(*READING_SETTINGS, with_storage=False)
def validate_command(path: Path, profile: str | None, html_file: Path | None, as_json: bool, **options: Any) -> None:
    """Check a OneRoster 1.1 CSV package, a ZIP file or a folder, with the checks of an import, but without a store.

    The exit code is 0 if the package is valid, also with warnings, and 1 if it has errors. References to files that the
    package does not have in full are not checked, because an import looks for their targets in the store.

    The reports quote the values of invalid cells, as the report of an import does.
    """
    from chalk_flask.cli import validation_report
    from chalk_flask.files import atomic_write
    from chalk_flask.roster.imports import ImportOptions
    from chalk_flask.roster.imports.validation import validate_package
    from chalk_flask.times import format_timestamp, utc_now

    import_options = ImportOptions.from_settings(
        settings_from_options(options), lenient=profile == "lenient", strict=profile == "strict"
    )
    with progress_line() as on_progress:
        report = validate_package(path, import_options, on_progress, package_name(path))
    profile_name = profile or DEFAULT_PROFILE
    if html_file is not None:
        page = validation_report.to_html(report, profile_name, format_timestamp(utc_now()))
        with atomic_write(html_file) as file:
            file.write(page.encode())
    echo_result(as_json, validation_report.to_dict(report, profile_name), validation_report.to_text(report))
    if report.problems.total:
        raise click.exceptions.Exit(1)
