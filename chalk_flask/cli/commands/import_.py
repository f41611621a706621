"""`chalk-flask import`: import a CSV package."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from chalk_flask.cli.commands.import_watch import watch_folder
from chalk_flask.cli.options import (
    IMPORT_SETTINGS,
    SettingsCommand,
    as_json_option,
    check_tenant,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.package_import import (
    csv_option,
    echo_report,
    exit_with,
    import_choices,
    package_file,
    run_import,
)

if TYPE_CHECKING:
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings

__all__ = ["import_command"]


@click.command(
    "import",
    cls=SettingsCommand,
    short_help="Import a OneRoster 1.1 CSV package.",
    epilog="Example: chalk-flask import district.zip --dry-run",
)
@click.argument("path", metavar="[PATH]", type=click.Path(path_type=Path), required=False)
@tenant_option
@click.option("--dry-run", is_flag=True, help="Validate the package and report the changes without applying them.")
@import_choices
@csv_option(
    "Write the quarantined rows with their reasons to this file. It contains personal data: only its owner can read it."
)
@click.option("--quiet", is_flag=True, help="Print only problems, on stderr, and show no progress.")
@click.option(
    "--watch",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Import each ZIP file that another program puts into this folder, until SIGTERM or Ctrl-C.",
)
@click.option(
    "--settle",
    metavar="SECONDS",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="With --watch: a file is complete if its size and time are unchanged for this long, and the end of the ZIP is"
    " there.",
)
@click.option("--once", is_flag=True, help="With --watch: end when no file is left, instead of waiting for new ones.")
@as_json_option
@settings_options("data", "upload_max_mb", "log_level", "log_format", *IMPORT_SETTINGS)
def import_command(
    path: Path | None,
    tenant: str,
    dry_run: bool,
    choices: ImportChoices,
    csv_file: Path | None,
    quiet: bool,
    watch: Path | None,
    settle: int,
    once: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Import a OneRoster 1.1 CSV package: a ZIP file or a folder. `-` is a ZIP file on the standard input.

    The whole package is validated first. A package with errors is rejected: every problem is listed, nothing is changed
    and the exit code is 1. Records that are missing from a bulk file are marked as deleted, and records that require
    them too.

    With `--invalid-rows quarantine`, invalid rows are set aside, and so are rows that refer to nothing. The others are
    applied. If a valid version of a quarantined record is stored, it stays.

    A package that exceeds a change threshold is held: nothing is changed and the exit code is 3. Apply it with
    `chalk-flask imports approve`. Set change thresholds with `chalk-flask tenant set`. By default, a package is held if
    it would delete more than 10 % and more than 10 of a file's records. It is also held if it would delete more than
    half of a file, or a school in use. The same applies to changes of more than 75 % of a file with more than 100
    records, and to more than 1 % and more than 10 quarantined rows of a file.

    Errors, warnings, quarantined rows, and the reasons of a hold go to stderr, the rest of the report to stdout.

    With `--watch DIR`, packages are imported as soon as they are complete, and are moved to DIR/done, DIR/held or
    DIR/rejected, with the report beside them. Outcomes go to the log, on stderr.
    """
    if watch is not None:
        if path or dry_run or csv_file or quiet or as_json:
            raise click.UsageError("--watch cannot be combined with PATH, --dry-run, --csv, --quiet and --json")
        settings = settings_from_options(options)
        watch_folder(watch, settings, tenant, choices, settle_seconds=settle, once=once)
        return
    if once or click.get_current_context().get_parameter_source("settle") is not ParameterSource.DEFAULT:
        raise click.UsageError("--settle and --once require --watch")
    if path is None:
        raise click.UsageError("Missing argument 'PATH', or the option --watch")
    if quiet and as_json:
        raise click.UsageError("--quiet and --json cannot be combined: --json prints the result")
    settings = settings_from_options(options)
    report = _import(path, settings, tenant, choices, dry_run=dry_run, csv_file=csv_file, quiet=quiet)
    echo_report(report, as_json=as_json, quiet=quiet)
    exit_with(report)


def _import(
    path: Path,
    settings: Settings,
    tenant: str,
    choices: ImportChoices,
    *,
    dry_run: bool,
    csv_file: Path | None,
    quiet: bool,
) -> ImportReport:
    from chalk_flask.data_folder_binding import bind_on_open
    from chalk_flask.storage import LazyStore

    with (
        ExitStack() as stack,
        LazyStore(settings.storage, bind_on_open(stack, settings)) as store,
    ):
        check_tenant(store, tenant)
        with package_file(path, settings) as (package, name):
            return run_import(
                store, settings, package, tenant, choices, dry_run=dry_run, csv_file=csv_file, name=name, quiet=quiet
            )
