"""`chalk-flask import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.edge import emit
from chalk_flask.cli.options import (
    IMPORTING,
    as_json_option,
    check_tenant,
    settings_of,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from backends import Snapshot, Transaction
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
        check_tenant(store, tenant)
        report = load_package(_OfTenantsThatExist(store), settings, path, tenant, dry_run)
    emit(as_json, report.as_dict(), report.as_text())
    if report.state == "refused":
        raise click.exceptions.Exit(1)


class _OfTenantsThatExist:
    """Rosters that are written as long as their tenant exists: it may be deleted while its package is checked."""

    def __init__(self, store: Rosters) -> None:
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


def load_package(store: Rosters, settings: Settings, path: Path, tenant: str, dry_run: bool = False) -> Report:
    """Import a package and show the progress on a terminal. What is committed is noted in the tenant's audit."""
    from chalk_flask.roster.importing import Options, import_package

    with progress_line() as progress:
        return import_package(
            store, tenant, path, Options.of(settings), dry_run=dry_run, progress=progress, also=_note_commit
        )


def _note_commit(report: Report, transaction: Transaction) -> None:
    from chalk_flask.access.entries import note_in

    counts: dict[str, Any] = report.as_dict()["total"]
    note_in(transaction, report.tenant, "import.committed", **counts, purged=report.purged)
