"""`chalk-flask imports`: list and show import runs; approve or discard held packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import as_json_option, check_tenant, settings_from_options, settings_options, tenant_option
from chalk_flask.cli.package_import import ExistingTenantStore, csv_option, current_user
from chalk_flask.cli.progress import progress_line
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from backends import Transaction
    from chalk_flask.roster.imports import OnCommit
    from chalk_flask.roster.imports.history import ImportRun
    from chalk_flask.roster.imports.report import ImportReport, RunState
    from chalk_flask.storage import RosterStore

__all__ = ["imports_group"]


@click.group("imports", short_help="List and show imports; approve or discard held ones.")
def imports_group() -> None:
    """List and show imports, and decide on those that are held.

    An import that exceeds a change threshold is held: its package is stored, and nothing changes until you approve or
    discard it. `chalk-flask tenant set` sets the thresholds.
    """


@imports_group.command("list", epilog="Example: chalk-flask imports list --tenant north")
@tenant_option
@as_json_option
@settings_options("data")
def list_imports(tenant: str, as_json: bool, **options: Any) -> None:
    """List the imports of the last 90 days, oldest first: committed, held and rejected ones."""
    with _open_store(options, tenant) as (store, folder):
        runs = _list_runs(store, folder, tenant)
    echo_result(as_json, {"imports": [run.to_dict(state) for run, state in runs]}, _table(runs))


@imports_group.command("show", epilog="Example: chalk-flask imports show run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@csv_option("Write the listed quarantined rows with their reasons to this file, without cell values.")
@as_json_option
@settings_options("data")
def show(run: str, tenant: str, csv_file: Path | None, as_json: bool, **options: Any) -> None:
    """Show an import: its report, its start time and the user who started it. Cell values are not stored.

    At most 1,000 problems of quarantined rows are stored. `chalk-flask import PACKAGE --dry-run --csv FILE` writes all
    of them, with the values.
    """
    with _open_store(options, tenant) as (store, folder):
        stored_run, state = _find_run(store, folder, tenant, run)
    if csv_file is not None:
        _write_quarantined_rows(csv_file, stored_run)
    echo_result(as_json, stored_run.to_dict(state), _run_text(stored_run, state))


@imports_group.command("approve", epilog="Example: chalk-flask imports approve run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def approve(run: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Apply a held import: exactly the held bytes, if the roster has not changed since.

    An import that was held more than 7 days ago can only be discarded.
    """
    from chalk_flask.roster.imports import approval

    with _open_store(options, tenant) as (store, folder), progress_line() as progress:
        user = current_user()
        report = approval.approve(
            ExistingTenantStore(store),
            tenant,
            run,
            folder,
            requested_by=user,
            progress=progress,
            on_commit=_record_approval(user),
        )
    echo_result(as_json, report.to_dict(), report.to_text())
    if report.state == "refused":
        raise click.exceptions.Exit(1)


@imports_group.command("discard", epilog="Example: chalk-flask imports discard run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def discard(run: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Discard a held import and delete its package. The roster does not change."""
    from chalk_flask.roster.imports import approval

    with _open_store(options, tenant) as (store, folder):
        discarded = approval.discard(
            ExistingTenantStore(store),
            tenant,
            run,
            folder,
            requested_by=current_user(),
            on_commit=_record_discard,
        )
    echo_result(as_json, discarded.to_dict("discarded"), f"Discarded {run} and deleted its package.")


@contextmanager
def _open_store(options: Mapping[str, Any], tenant: str) -> Iterator[tuple[RosterStore, Path]]:
    """Yield the store and its folder of held packages, after deleting expired ones. Raises CommandError."""
    from chalk_flask.roster.imports.approval import ApprovalError
    from chalk_flask.roster.imports.hold import remove_expired
    from chalk_flask.roster.imports.run_files import store_folder
    from chalk_flask.storage import LazyStore

    settings = settings_from_options(options)
    folder = store_folder(settings)
    with LazyStore(settings.storage) as store:
        check_tenant(store, tenant)
        remove_expired(store, folder)
        try:
            yield store, folder
        except ApprovalError as error:
            raise CommandError(str(error)) from error


def _list_runs(store: RosterStore, folder: Path, tenant: str) -> list[tuple[ImportRun, RunState]]:
    from chalk_flask.roster.imports import history

    now = datetime.now(UTC)
    with store.read(tenant) as snapshot:
        runs = history.list_runs(snapshot, folder, tenant)
        return [(run, run.current_state(now, snapshot)) for run in runs]


def _find_run(store: RosterStore, folder: Path, tenant: str, run: str) -> tuple[ImportRun, RunState]:
    from chalk_flask.roster.imports import history

    with store.read(tenant) as snapshot:
        stored_run = history.find_run(snapshot, run) or history.find_rejected_run(folder, tenant, run)
        if stored_run is None:
            raise CommandError(f"there is no import {run[:80]!r}: `chalk-flask imports list` shows all imports")
        return stored_run, stored_run.current_state(datetime.now(UTC), snapshot)


def _write_quarantined_rows(path: Path, run: ImportRun) -> None:
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.package.quarantine import write_csv

    write_csv(path, ImportReport.from_dict(run.report).quarantined_rows)


def _record_approval(user: str) -> OnCommit:
    from chalk_flask.audit.events import record_event
    from chalk_flask.cli.package_import import record_commit

    def record(report: ImportReport, transaction: Transaction) -> None:
        record_event(transaction, report.tenant, "import.approved", run=report.run, by=user)
        record_commit(report, transaction)

    return record


def _record_discard(run: ImportRun, transaction: Transaction) -> None:
    from chalk_flask.audit.events import record_event

    record_event(transaction, run.tenant, "import.discarded", run=run.id, by=run.settled_by)


def _run_text(run: ImportRun, state: RunState) -> str:
    from chalk_flask.roster.imports.report import ImportReport

    lines = [
        f"run      {run.id}",
        f"started  {run.started}",
        f"by       {run.who or 'unknown'}",
        f"sha256   {run.sha256 or 'unknown'}",
        *(
            [f"{'approved' if state != 'discarded' else 'discarded'} {run.settled} by {run.settled_by}"]
            if run.settled
            else []
        ),
        "",
        ImportReport.from_dict({**run.report, "state": state}).to_text(),
    ]
    return "\n".join(lines)


def _table(runs: Iterable[tuple[ImportRun, RunState]]) -> str:
    from chalk_flask.roster.package.problems import to_one_line

    rows = []
    for run, state in runs:
        total = run.report["total"]
        counts = [f"{total[name]:,}" for name in ("created", "updated", "deleted", "revived", "unchanged")]
        rows.append((run.id, run.started, state, run.who, *counts, to_one_line(run.report["package"])))
    if not rows:
        return "There were no imports in the last 90 days."
    head = ("RUN", "STARTED", "STATE", "BY", "CREATED", "UPDATED", "DELETED", "REVIVED", "UNCHANGED", "PACKAGE")
    return format_table(head, rows)
