"""Imports from the command line: options, progress and exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import tenant_errors
from chalk_flask.cli.progress import progress_line
from chalk_flask.settings.setting_type import absolute_path

if TYPE_CHECKING:
    from chalk_flask.roster.imports.options import InvalidRows
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings
    from chalk_flask.storage import RosterStore

__all__ = [
    "csv_option",
    "current_user",
    "echo_report",
    "exit_with",
    "import_choices",
    "invalid_rows_option",
    "lenient_option",
    "package_file",
    "package_name",
    "run_import",
]

STDIN_ARGUMENT: Final = "-"
"""Path that stands for the standard input."""
STDIN_NAME: Final = "stdin"
"""Name of a package from the standard input, in messages and in the list of imports."""

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
    name: str | None = None,
    quiet: bool = False,
) -> ImportReport:
    """Import a package as `tenant_imports.run_import` does, and show the progress on a terminal unless `quiet`.

    `requested_by` defaults to the user of this process, and `name` to the name of the path. Raises CommandError if the
    tenant is deleted meanwhile.
    """
    from chalk_flask.roster import tenant_imports

    with tenant_errors(), nullcontext() if quiet else progress_line() as on_progress:
        return tenant_imports.run_import(
            store,
            settings,
            path,
            tenant,
            choices or tenant_imports.ImportChoices(),
            requested_by=current_user() if requested_by is None else requested_by,
            dry_run=dry_run,
            on_progress=on_progress,
            csv_file=csv_file,
            name=name or package_name(path),
        )


def package_name(path: Path) -> str:
    """Return the name of a package in its report: the last one of the path, or the absolute path of a missing file."""
    return (path.name or path.resolve().name) if path.exists() else absolute_path(str(path))


@contextmanager
def package_file(path: Path, settings: Settings) -> Iterator[tuple[Path, str | None]]:
    """Yield the path of a package, and the name to show if it is another one.

    For `-`, copy the standard input to a private temporary file, which is deleted in the end, also after SIGTERM.
    Raises CommandError if it is empty or larger than an upload may be, or if the disk is full.
    """
    if str(path) != STDIN_ARGUMENT:
        yield path, None
        return
    from tempfile import TemporaryDirectory

    from chalk_flask.jobs.uploads import UploadError, store_upload

    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("PATH is - and no file is on stdin: use a pipe or a redirection, or give a path")
    with _exit_after_sigterm(), TemporaryDirectory(prefix="chalk-flask-") as folder:
        try:
            max_bytes = settings.upload_max_mb << 20
            stored = store_upload(Path(folder), sys.stdin.buffer, STDIN_NAME, max_bytes, accepts_any=True)
        except UploadError as error:
            raise CommandError(str(error)) from error
        if not stored.stat().st_size:
            raise CommandError(f"{STDIN_NAME} is empty: check the program that writes to the pipe")
        yield stored, STDIN_NAME


@contextmanager
def _exit_after_sigterm() -> Iterator[None]:
    """Raise SystemExit in the block after SIGTERM, so that it can delete its files."""
    former = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def echo_report(report: ImportReport, *, as_json: bool, quiet: bool = False) -> None:
    """Print a report: problems on stderr and the result on stdout, or all of it as one JSON object on stdout.

    With `quiet`, print only the headline and the problems, and nothing if there are none.
    """
    if as_json:
        echo_result(as_json, report.to_dict(), "")
        return
    sections = report.to_sections()
    if quiet:
        (_, headline), *others = sections
        problems = [(True, lines) for is_problem, lines in others if is_problem]
        sections = [(True, headline), *problems] if problems or sections[0][0] else []
    for is_problem, lines in sections:
        click.echo(complete_hints("\n".join(lines)), err=is_problem)


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
