"""`chalk-flask imports`: what imports did is listed and shown, and what is held is approved or discarded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.commands.import_ import OfTenantsThatExist, operator
from chalk_flask.cli.errors import Refused, emit
from chalk_flask.cli.formatting import table
from chalk_flask.cli.options import as_json_option, check_tenant, settings_of, settings_options, tenant_option
from chalk_flask.cli.progress import progress_line

if TYPE_CHECKING:
    from pathlib import Path

    from backends import Transaction
    from chalk_flask.roster.imports.history import Run
    from chalk_flask.roster.imports.report import Report, State
    from chalk_flask.roster.opening import Rosters
    from chalk_flask.settings import Settings

__all__ = ["imports_group"]


@click.group("imports", short_help="List and show imports; approve or discard what is held.")
def imports_group() -> None:
    """See what imports did, and decide about those that are held.

    An import that would delete or change much of what is stored is held: its package is kept aside, and nothing
    changes until somebody has looked at it. `chalk-flask tenant set` sets what counts as much.
    """


@imports_group.command("list", epilog="Example: chalk-flask imports list --tenant north")
@tenant_option
@as_json_option
@settings_options("data")
def list_imports(tenant: str, as_json: bool, **given: Any) -> None:
    """List the imports of the last 90 days, the oldest first: committed, held and refused ones."""
    with _opened(settings_of(given), tenant) as (store, folder):
        found = _listed(store, folder, tenant)
    emit(as_json, {"imports": [run.shown(state) for run, state in found]}, _table(found))


@imports_group.command("show", epilog="Example: chalk-flask imports show run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def show(run: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Show an import: the report that it gave, who asked for it and when. Values of cells are not kept."""
    with _opened(settings_of(given), tenant) as (store, folder):
        found, state = _found(store, folder, tenant, run)
    emit(as_json, found.shown(state), _shown(found, state))


@imports_group.command("approve", epilog="Example: chalk-flask imports approve run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def approve(run: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Apply a held import as it is: exactly the bytes that were held, if the roster has not changed since.

    What was held more than 7 days ago can only be discarded.
    """
    from chalk_flask.roster.imports import approval

    with _opened(settings_of(given), tenant) as (store, folder), progress_line() as progress:
        who = operator()
        report = approval.approve(
            OfTenantsThatExist(store),
            tenant,
            run,
            _options(folder),
            who=who,
            progress=progress,
            also=_note_approval(who),
        )
    emit(as_json, report.as_dict(), report.as_text())
    if report.state == "refused":
        raise click.exceptions.Exit(1)


@imports_group.command("discard", epilog="Example: chalk-flask imports discard run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def discard(run: str, tenant: str, as_json: bool, **given: Any) -> None:
    """Drop a held import and its package. Nothing of the roster changes."""
    from chalk_flask.roster.imports import approval

    with _opened(settings_of(given), tenant) as (store, folder):
        ended = approval.discard(
            OfTenantsThatExist(store), tenant, run, _options(folder), who=operator(), noted=_note_discarded
        )
    emit(as_json, ended.shown("discarded"), f"Discarded {run}; its package is removed.")


@contextmanager
def _opened(settings: Settings, tenant: str) -> Iterator[tuple[Rosters, Path]]:
    """The rosters, and the folder of what is held for this store, tidied. Raises Refused."""
    from chalk_flask.roster.imports.approval import NotHeld
    from chalk_flask.roster.imports.held_files import store_folder
    from chalk_flask.roster.imports.hold import tidy
    from chalk_flask.roster.opening import OpenedWhenWritten

    folder = store_folder(settings)
    with OpenedWhenWritten(settings.storage) as store:
        check_tenant(store, tenant)
        tidy(store, folder)
        try:
            yield store, folder
        except NotHeld as error:
            raise Refused(str(error)) from error


def _options(folder: Path) -> Any:
    from chalk_flask.roster.imports.options import Options

    return Options(folder=folder)


def _listed(store: Rosters, folder: Path, tenant: str) -> list[tuple[Run, State]]:
    from chalk_flask.roster.imports import history

    now = datetime.now(UTC)
    with store.read(tenant) as snapshot:
        found = history.listed(snapshot, folder, tenant)
        return [(run, run.state_at(now, snapshot.revision)) for run in found]


def _found(store: Rosters, folder: Path, tenant: str, run: str) -> tuple[Run, State]:
    from chalk_flask.roster.imports import history

    with store.read(tenant) as snapshot:
        found = history.find(snapshot, run) or history.find_refused(folder, tenant, run)
        if found is None:
            raise Refused(f"there is no import {run[:80]!r}: `chalk-flask imports list` shows those there are")
        return found, found.state_at(datetime.now(UTC), snapshot.revision)


def _note_approval(who: str) -> Any:
    from chalk_flask.audit.events import note_in
    from chalk_flask.cli.commands.import_ import note_commit

    def noted(report: Report, transaction: Transaction) -> None:
        note_in(transaction, report.tenant, "import.approved", run=report.run, by=who)
        note_commit(report, transaction)

    return noted


def _note_discarded(run: Run, transaction: Transaction) -> None:
    from chalk_flask.audit.events import note_in

    note_in(transaction, run.tenant, "import.discarded", run=run.id, by=run.settled_by)


def _shown(run: Run, state: State) -> str:
    from chalk_flask.roster.imports.report import Report

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
        Report.of({**run.report, "state": state}).as_text(),
    ]
    return "\n".join(lines)


def _table(found: Iterable[tuple[Run, State]]) -> str:
    from chalk_flask.roster.package.problems import one_line

    rows = []
    for run, state in found:
        total = run.report["total"]
        counts = [f"{total[name]:,}" for name in ("created", "updated", "deleted", "revived", "unchanged")]
        rows.append((run.id, run.started, state, run.who, *counts, one_line(run.report["package"])))
    if not rows:
        return "Nothing was imported in the last 90 days."
    head = ("RUN", "STARTED", "STATE", "BY", "CREATED", "UPDATED", "DELETED", "REVIVED", "UNCHANGED", "PACKAGE")
    return table(head, rows)
