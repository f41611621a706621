"""Imports from the command line: options, settings of the tenant, progress, audit events and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from chalk_flask.cli.options import check_tenant
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from backends import Snapshot, Transaction
    from chalk_flask.roster.imports import ImportOptions
    from chalk_flask.roster.imports.options import InvalidRows
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.settings import Settings
    from chalk_flask.storage import RosterStore

__all__ = [
    "ExistingTenantStore",
    "ImportChoices",
    "csv_option",
    "current_user",
    "exit_with",
    "import_choices",
    "invalid_rows_option",
    "lenient_option",
    "record_commit",
    "run_import",
]

Command: TypeAlias = Callable[..., Any]
Function = TypeVar("Function", bound=Command)


@dataclass(frozen=True, slots=True)
class ImportChoices:
    """Options of one import. Without `lenient` or `invalid_rows`, the settings of the tenant apply."""

    lenient: bool | None = None
    invalid_rows: InvalidRows | None = None
    strict: bool = False


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
        return command(*args, choices=ImportChoices(lenient, invalid_rows, strict), **kwargs)

    decorated: Command = with_choices
    for option in reversed(_CHOICES):
        decorated = option(decorated)
    return decorated


class ExistingTenantStore:
    """Roster store that rejects writes to a deleted tenant. A tenant can be deleted while its package is validated."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store

    def read(self, tenant: str) -> Snapshot:
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        transaction = self._store.write(tenant)
        try:
            # Checked inside the transaction: deleting a tenant first removes its name, then waits for the write lock.
            check_tenant(self._store, tenant)
        except BaseException:
            transaction.close()
            raise
        return transaction


_NO_CHOICES = ImportChoices()


def run_import(
    store: RosterStore,
    settings: Settings,
    path: Path,
    tenant: str,
    choices: ImportChoices = _NO_CHOICES,
    *,
    requested_by: str | None = None,
    dry_run: bool = False,
    csv_file: Path | None = None,
) -> ImportReport:
    """Import a package with the settings of its tenant, and show the progress on a terminal.

    Records a commit or a hold in the audit log of the tenant. `requested_by` defaults to the user of this process.
    `csv_file` is the file for quarantined rows.
    """
    from chalk_flask.roster.imports import import_package

    with progress_line() as progress:
        return import_package(
            store,
            tenant,
            path,
            _import_options(store, settings, tenant, choices),
            requested_by=current_user() if requested_by is None else requested_by,
            dry_run=dry_run,
            progress=progress,
            on_commit=record_commit,
            on_hold=_record_hold,
            csv_file=csv_file,
        )


def _import_options(store: RosterStore, settings: Settings, tenant: str, choices: ImportChoices) -> ImportOptions:
    """Return the options of an import with the settings of its tenant."""
    from chalk_flask.roster.imports import ImportOptions
    from chalk_flask.roster.imports.thresholds import ChangeThresholds
    from chalk_flask.tenants.store import CONTROL, Tenant, find_tenant

    with store.read(CONTROL) as control:
        stored = find_tenant(control, tenant) or Tenant(name=tenant)
    is_quarantine = (choices.invalid_rows or stored.invalid_rows) == "quarantine"
    return ImportOptions.from_settings(
        settings,
        ChangeThresholds.parse(stored.max_deleted, stored.max_changed, stored.max_quarantined),
        lenient=stored.lenient if choices.lenient is None else choices.lenient,
        invalid_rows="quarantine" if is_quarantine else "reject",
        strict=choices.strict,
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


def record_commit(report: ImportReport, transaction: Transaction) -> None:
    """Record the counts of an import in the audit log."""
    from chalk_flask.audit.events import record_event

    counts: dict[str, Any] = report.to_dict()["total"]
    counts |= {"purged": report.purged, "quarantined": sum(report.quarantined.values())}
    record_event(transaction, report.tenant, "import.committed", **counts, run=report.run)


def _record_hold(report: ImportReport, transaction: Transaction) -> None:
    from chalk_flask.audit.events import record_event

    files = sorted({exceeded.file for exceeded in report.exceeded})
    record_event(transaction, report.tenant, "import.held", run=report.run, files=files, expires=report.expires)
