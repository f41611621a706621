"""`chalk-flask import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    IMPORT_SETTINGS,
    as_json_option,
    check_tenant,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from backends import Snapshot, Transaction
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.imports.thresholds import ChangeThresholds
    from chalk_flask.settings import Settings
    from chalk_flask.storage import RosterStore

__all__ = [
    "ExistingTenantStore",
    "current_user",
    "exit_with",
    "import_command",
    "load_package",
    "record_commit",
    "thresholds_of",
]


@click.command(
    "import",
    short_help="Load a OneRoster 1.1 CSV package.",
    epilog="Example: chalk-flask import district.zip --dry-run",
)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@tenant_option
@click.option("--dry-run", is_flag=True, help="Check the package and say what would change; change nothing.")
@as_json_option
@settings_options("data", *IMPORT_SETTINGS)
def import_command(path: Path, tenant: str, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Load a OneRoster 1.1 CSV package, a ZIP file or a folder.

    The whole package is checked first. When anything is wrong with it, all that is wrong is listed, nothing is changed
    and the exit code is 1. Records that the package no longer has are marked as deleted.

    A package that would delete more than 10 % of a file's records and more than 10 of them, or change more than 75 % of
    a file over 100 records, is held: nothing is changed, the exit code is 3, and `chalk-flask imports approve` applies
    it. `chalk-flask tenant set` sets other limits.
    """
    from chalk_flask.storage import LazyStore

    settings = settings_from_options(given)
    with LazyStore(settings.storage) as store:
        check_tenant(store, tenant)
        report = load_package(ExistingTenantStore(store), settings, path, tenant, dry_run)
    echo_result(as_json, report.to_dict(), report.to_text())
    exit_with(report)


class ExistingTenantStore:
    """Rosters that are written as long as their tenant exists: it may be deleted while its package is checked."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store

    def read(self, tenant: str) -> Snapshot:
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        transaction = self._store.write(tenant)
        try:
            # Inside the transaction: whoever deletes a tenant ends it first, and waits for the writer then.
            check_tenant(self._store, tenant)
        except BaseException:
            transaction.close()
            raise
        return transaction


def load_package(
    store: RosterStore, settings: Settings, path: Path, tenant: str, dry_run: bool = False, who: str | None = None
) -> ImportReport:
    """Import a package with the brake of its tenant, and show the progress on a terminal.

    What is committed or held is noted in the tenant's audit. `who` asked for it: the user of this process, if not said.
    """
    from chalk_flask.roster.imports.importer import ImportOptions, import_package

    options = ImportOptions.from_settings(settings, thresholds_of(store, tenant))
    with progress_line() as progress:
        return import_package(
            store,
            tenant,
            path,
            options,
            requested_by=current_user() if who is None else who,
            dry_run=dry_run,
            progress=progress,
            on_commit=record_commit,
            on_hold=_note_hold,
        )


def thresholds_of(store: RosterStore, tenant: str) -> ChangeThresholds:
    """The limits above which an import of the tenant is held."""
    from chalk_flask.roster.imports.thresholds import CHANGED, DELETED, ChangeThresholds, parse_threshold
    from chalk_flask.tenants.store import CONTROL, find_tenant

    with store.read(CONTROL) as control:
        found = find_tenant(control, tenant)
    deleted, changed = (found.max_deleted, found.max_changed) if found else (None, None)
    return ChangeThresholds(
        DELETED if deleted is None else parse_threshold(deleted),
        CHANGED if changed is None else parse_threshold(changed),
    )


def current_user() -> str:
    """The name of the user of this process, or their number where the system knows no name."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def exit_with(report: ImportReport) -> None:
    """End the command with the code that the report asks for: 1 when refused, 3 when held or when it would be held."""
    if report.state == "refused":
        raise click.exceptions.Exit(1)
    if report.state == "held" or report.exceeded:
        raise click.exceptions.Exit(3)


def record_commit(report: ImportReport, transaction: Transaction) -> None:
    """Note in the audit what an import changed."""
    from chalk_flask.audit.events import record_event

    counts: dict[str, Any] = report.to_dict()["total"]
    record_event(transaction, report.tenant, "import.committed", **counts, purged=report.purged, run=report.run)


def _note_hold(report: ImportReport, transaction: Transaction) -> None:
    from chalk_flask.audit.events import record_event

    files = sorted({trip.file for trip in report.exceeded})
    record_event(transaction, report.tenant, "import.held", run=report.run, files=files, expires=report.expires)
