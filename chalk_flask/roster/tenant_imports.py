"""Imports, approvals and discards in a tenant: with the settings of the tenant, and with audit events.

The command line, jobs and the console call these functions. Each raises TenantError if the tenant does not exist or is
deleted meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from msgspec.structs import replace

from backends import Snapshot, StorageError, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.notices import wanted_events
from chalk_flask.roster.changes.history_retention import history_days, remove_expired_history
from chalk_flask.roster.import_events import enqueue_committed, enqueue_held, enqueue_rejected
from chalk_flask.roster.import_log import log_discard, log_import
from chalk_flask.roster.imports import (
    ImportOptions,
    ImportReport,
    OnProgress,
    OnResult,
    approval,
    history,
    import_package,
)
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.roster.imports.parameters import ImportParameters
from chalk_flask.roster.imports.report import RunState
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.imports.thresholds import ChangeThresholds
from chalk_flask.settings import Settings
from chalk_flask.storage import RosterStore
from chalk_flask.tenants.store import CONTROL, Tenant, TenantError, require_tenant
from chalk_flask.times import utc_now

__all__ = ["ExistingTenantStore", "ImportChoices", "approve_import", "discard_import", "find_import", "run_import"]


@dataclass(frozen=True, slots=True)
class ImportChoices:
    """Choices for one import. If `lenient` or `invalid_rows` is None, the setting of the tenant applies."""

    lenient: bool | None = None
    invalid_rows: InvalidRows | None = None
    strict: bool = False


class ExistingTenantStore:
    """Roster store that rejects writes to a deleted tenant. A tenant can be deleted while its package is validated."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store

    def read(self, tenant: str) -> Snapshot:
        """Return a snapshot of a tenant."""
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        """Return a write transaction of a tenant. Raises TenantError if the tenant does not exist."""
        transaction = self._store.write(tenant)
        try:
            # Checked inside the transaction: deleting a tenant first removes its name, then waits for the write lock.
            with self._store.read(CONTROL) as control:
                require_tenant(control, tenant)
        except BaseException:
            transaction.close()
            raise
        return transaction

    def tenants(self) -> list[str]:
        """Return the names of all tenants."""
        return self._store.tenants()


_NO_CHOICES = ImportChoices()


def run_import(
    store: RosterStore,
    settings: Settings,
    path: Path,
    tenant: str,
    choices: ImportChoices = _NO_CHOICES,
    **parameters: Unpack[ImportParameters],
) -> ImportReport:
    """Import a package with the settings of its tenant, and record a commit or a hold in its audit log.

    See `import_package` for the parameters. Raises TenantError, StorageError, and OSError if the file for quarantined
    rows cannot be written.
    """
    options = _import_options(store, settings, tenant, choices)
    wanted = _wanted_events(store, tenant)
    user = parameters.get("requested_by", "")
    parameters.setdefault("on_commit", partial(_record_commit, wanted, user))
    parameters.setdefault("on_hold", partial(_record_hold, wanted, user))
    days = history_days(store, tenant, settings.history_days)
    parameters.setdefault("keeps_history", days > 0)
    report = import_package(ExistingTenantStore(store), tenant, path, options, **parameters)
    log_import(report)
    if report.state == "committed":
        _remove_expired_history(store, tenant, days)
    if report.state == "refused" and not report.dry_run:
        enqueue_rejected(wanted, ExistingTenantStore(store), report)
    return report


def approve_import(
    store: RosterStore,
    settings: Settings,
    tenant: str,
    run_id: str,
    *,
    requested_by: str,
    on_progress: OnProgress | None = None,
    on_result: OnResult | None = None,
) -> ImportReport:
    """Apply the package of a held run, and record that in the audit log of its tenant.

    Raises ApprovalError, TenantError, StorageError and OSError.
    """
    days = history_days(store, tenant, settings.history_days)
    report = approval.approve(
        ExistingTenantStore(store),
        tenant,
        run_id,
        store_folder(settings),
        requested_by=requested_by,
        on_progress=on_progress,
        on_commit=partial(_record_approval, _wanted_events(store, tenant), requested_by),
        on_result=on_result,
        keeps_history=days > 0,
    )
    log_import(report)
    if report.state == "committed":
        _remove_expired_history(store, tenant, days)
    return report


def discard_import(store: RosterStore, settings: Settings, tenant: str, run_id: str, *, requested_by: str) -> ImportRun:
    """Delete the package of a held run, and record that in the audit log of its tenant. Return the discarded run.

    Raises ApprovalError, TenantError, StorageError and OSError.
    """
    folder = store_folder(settings)
    existing = ExistingTenantStore(store)
    run = approval.discard(existing, tenant, run_id, folder, requested_by=requested_by, on_commit=_record_discard)
    log_discard(tenant, run_id)
    return run


def find_import(store: RosterStore, settings: Settings, tenant: str, run_id: str) -> tuple[ImportRun, RunState] | None:
    """Return a run of a tenant and its present state; None for an unknown id. Raises StorageError and OSError."""
    with store.read(tenant) as snapshot:
        run = history.find_run(snapshot, run_id)
        run = run or history.find_rejected_run(store_folder(settings), tenant, run_id)
        return None if run is None else (run, run.current_state(utc_now(), snapshot))


def _import_options(store: RosterStore, settings: Settings, tenant: str, choices: ImportChoices) -> ImportOptions:
    """Return the options of an import with the settings of its tenant."""
    with store.read(CONTROL) as control:
        stored = require_tenant(control, tenant)
    is_quarantine = (choices.invalid_rows or stored.invalid_rows) == "quarantine"
    return ImportOptions.from_settings(
        _with_retention(settings, stored),
        ChangeThresholds.parse(stored.max_deleted, stored.max_changed, stored.max_quarantined),
        lenient=stored.lenient if choices.lenient is None else choices.lenient,
        invalid_rows="quarantine" if is_quarantine else "reject",
        strict=choices.strict,
    )


def _wanted_events(store: RosterStore, tenant: str) -> Collection[str]:
    """Return the events of which administrators want a notice by mail."""
    with store.read(CONTROL) as control:
        return wanted_events(control, tenant)


def _with_retention(settings: Settings, tenant: Tenant) -> Settings:
    """Return the settings with the tenant's retention of tombstones, unless an option of the command sets it."""
    if tenant.tombstone_days is None or settings.sources.get("tombstone_days") == "argument":
        return settings
    return replace(settings, tombstone_days=tenant.tombstone_days)


def _remove_expired_history(store: RosterStore, tenant: str, days: int) -> None:
    """Delete expired changes. A failure does not concern the import; the job worker tries again."""
    with contextlib.suppress(StorageError, TenantError):
        remove_expired_history(ExistingTenantStore(store), tenant, days, utc_now())


def _record_commit(wanted: Collection[str], user: str, report: ImportReport, transaction: Transaction) -> None:
    """Record the counts of an import in the audit log."""
    counts: dict[str, Any] = report.to_dict()["total"]
    counts |= {"purged": report.purged, "quarantined": sum(report.quarantined.values())}
    record_event(transaction, report.tenant, "import.committed", **counts, run=report.run, by=user)
    enqueue_committed(wanted, report, transaction)


def _record_hold(wanted: Collection[str], user: str, report: ImportReport, transaction: Transaction) -> None:
    files = sorted({exceeded.file for exceeded in report.exceeded})
    expires = report.expires
    record_event(transaction, report.tenant, "import.held", run=report.run, files=files, expires=expires, by=user)
    enqueue_held(wanted, report, transaction)


def _record_approval(wanted: Collection[str], user: str, report: ImportReport, transaction: Transaction) -> None:
    record_event(transaction, report.tenant, "import.approved", run=report.run, by=user)
    _record_commit(wanted, user, report, transaction)


def _record_discard(run: ImportRun, transaction: Transaction) -> None:
    record_event(transaction, run.tenant, "import.discarded", run=run.id, by=run.settled_by)
