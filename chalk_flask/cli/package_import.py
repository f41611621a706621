"""Imports from the command line: progress, change thresholds, audit events and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    "current_user",
    "exit_with",
    "load_package",
    "record_commit",
]


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


def load_package(
    store: RosterStore,
    settings: Settings,
    path: Path,
    tenant: str,
    dry_run: bool = False,
    requested_by: str | None = None,
    lenient: bool | None = None,
    invalid_rows: InvalidRows | None = None,
    strict: bool = False,
    csv_file: Path | None = None,
) -> ImportReport:
    """Import a package with the settings of its tenant, and show the progress on a terminal.

    Records a commit or a hold in the audit log of the tenant. `requested_by` defaults to the user of this process,
    `lenient` and `invalid_rows` to the settings of the tenant. `csv_file` is the file for quarantined rows.
    """
    from chalk_flask.roster.imports import import_package

    options = _options_for(store, settings, tenant, lenient=lenient, invalid_rows=invalid_rows, strict=strict)
    with progress_line() as progress:
        return import_package(
            store,
            tenant,
            path,
            options,
            requested_by=current_user() if requested_by is None else requested_by,
            dry_run=dry_run,
            progress=progress,
            on_commit=record_commit,
            on_hold=_record_hold,
            csv_file=csv_file,
        )


def _options_for(
    store: RosterStore,
    settings: Settings,
    tenant: str,
    *,
    lenient: bool | None,
    invalid_rows: InvalidRows | None,
    strict: bool,
) -> ImportOptions:
    """Return the options of an import with the settings of its tenant."""
    from chalk_flask.roster.imports import ImportOptions
    from chalk_flask.roster.imports.thresholds import CHANGED, DELETED, QUARANTINED, ChangeThresholds, parse_threshold
    from chalk_flask.tenants.store import CONTROL, Tenant, find_tenant

    with store.read(CONTROL) as control:
        stored = find_tenant(control, tenant) or Tenant(name=tenant)
    thresholds = ChangeThresholds(
        DELETED if stored.max_deleted is None else parse_threshold(stored.max_deleted),
        CHANGED if stored.max_changed is None else parse_threshold(stored.max_changed),
        QUARANTINED if stored.max_quarantined is None else parse_threshold(stored.max_quarantined),
    )
    is_quarantine = (invalid_rows or stored.invalid_rows) == "quarantine"
    return ImportOptions.from_settings(
        settings,
        thresholds,
        lenient=stored.lenient if lenient is None else lenient,
        invalid_rows="quarantine" if is_quarantine else "reject",
        strict=strict,
    )


def current_user() -> str:
    """Return the name of the user of this process, or the user id if the system has no name for it."""
    import getpass
    import os

    try:
        return getpass.getuser()
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
