"""Imports from the command line: options, progress and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from chalk_flask.cli.options import tenant_errors
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from chalk_flask.roster.imports.options import InvalidRows
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings
    from chalk_flask.storage import RosterStore

__all__ = [
    "csv_option",
    "current_user",
    "exit_with",
    "import_choices",
    "invalid_rows_option",
    "lenient_option",
    "run_import",
]

Command: TypeAlias = Callable[..., Any]
Function = TypeVar("Function", bound=Command)


def lenient_option(help_text: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --lenient and --no-lenient."""
    return click.option("--lenient/--no-lenient", default=None, help=help_text)


def invalid_rows_option(help_text: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --invalid-rows."""
    return click.option("--invalid-rows", type=click.Choice(["reject", "quarantine"]), help=help_text)


def csv_option(help_text: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --csv as the argument `csv_file`."""
    return click.option("--csv", "csv_file", metavar="FILE", type=click.Path(path_type=Path), help=help_text)


_CHOICES: tuple[Callable[[Command], Command], ...] = (
    lenient_option(
        "Accept deviations from the standard, each with a warning (tolerances T-01 to T-12).  [default: the setting of"
        " the tenant]"
    ),
    invalid_rows_option(
        "What to do with invalid rows: reject the package, or set them aside and apply the others.  [default: the"
        " setting of the tenant, reject]"
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Treat references to the wrong type, contradictions and placeholders such as #REF! as errors.",
    ),
)


def import_choices(command: Command) -> Command:
    """Add the options of `ImportChoices`; the command receives them as `choices`."""

    @wraps(command)
    def with_choices(
        *args: Any, lenient: bool | None, invalid_rows: InvalidRows | None, strict: bool, **kwargs: Any
    ) -> Any:
        from chalk_flask.roster.tenant_imports import ImportChoices

        return command(*args, choices=ImportChoices(lenient, invalid_rows, strict), **kwargs)

    decorated: Command = with_choices
    for option in reversed(_CHOICES):
        decorated = option(decorated)
    return decorated


def run_import(
    store: RosterStore,
    settings: Settings,
    path: Path,
    tenant: str,
    choices: ImportChoices | None = None,
    *,
    requested_by: str | None = None,
    dry_run: bool = False,
    csv_file: Path | None = None,
) -> ImportReport:
    """Import a package as `tenant_imports.run_import` does, and show the progress on a terminal.

    `requested_by` defaults to the user of this process. Raises CommandError if the tenant is deleted meanwhile.
    """
    from chalk_flask.roster import tenant_imports

    with tenant_errors(), progress_line() as progress:
        return tenant_imports.run_import(
            store,
            settings,
            path,
            tenant,
            choices or tenant_imports.ImportChoices(),
            requested_by=current_user() if requested_by is None else requested_by,
            dry_run=dry_run,
            progress=progress,
            csv_file=csv_file,
        )


def current_user() -> str:
    """Return the name of the user of this process, or the user id if the system has no name for it."""
    import getpass
    import os

    try:
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def exit_with(report: ImportReport) -> None:
    """Exit with the code of the report: 1 if rejected, 3 if held or if a dry run would be held. Else return."""
    if report.state == "refused":
        raise click.exceptions.Exit(1)
    if report.state == "held" or report.exceeded:
        raise click.exceptions.Exit(3)
