"""`chalk-flask imports`: list and show import runs; approve or discard held packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import (
    as_json_option,
    check_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.package_import import csv_option, current_user, echo_report
from chalk_flask.cli.progress import progress_line
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from backends import Snapshot
    from chalk_flask.jobs import Job
    from chalk_flask.roster.imports.history import ImportRun
    from chalk_flask.roster.imports.report import RunState
    from chalk_flask.settings import Settings
    from chalk_flask.storage import RosterStore

__all__ = ["imports_group"]


@click.group("imports", short_help="List and show imports; approve or discard held ones.")
def imports_group() -> None:
    """List and show imports, and decide on those that are held.

    An import that exceeds a change threshold is held: its package is stored, and nothing changes until you approve or
    discard it. `chalk-flask tenant set` sets the thresholds.
    """


@imports_group.command(
    "list",
    short_help="List the imports of the last 90 days, oldest first.",
    epilog="Example: chalk-flask imports list --tenant north",
)
@tenant_option
@as_json_option
@settings_options("data")
def list_imports(tenant: str, as_json: bool, **options: Any) -> None:
    """List the imports of the last 90 days, oldest first: committed, held and rejected ones.

    Counts are those of applied imports; `imports show` has those of others. The jobs of the console without a result
    follow: queued, running and failed ones.
    """
    with _open_store(options, tenant) as (store, settings):
        runs = _list_runs(store, settings, tenant)
        jobs = _list_jobs_without_result(store, tenant)
        names = _administrator_names(store)
    data = {"imports": [run.to_dict(state) for run, state in runs], "jobs": [job.to_dict() for job in jobs]}
    echo_result(as_json, data, _list_text(runs, jobs, names))


@imports_group.command(
    "show",
    short_help="Show an import, its report, time and user.",
    epilog="Example: chalk-flask imports show run-6f1d2c3b-...",
)
@click.argument("run", metavar="RUN")
@tenant_option
@csv_option("Write the listed quarantined rows with their reasons to this file, without cell values.")
@as_json_option
@settings_options("data")
def show(run: str, tenant: str, csv_file: Path | None, as_json: bool, **options: Any) -> None:
    """Show an import: its report, its start time and the user who started it. Cell values are not stored.

    RUN is the id of a run or its beginning, the id of the job that ran it, or `latest`.

    At most 1,000 problems of quarantined rows are stored. `chalk-flask import PACKAGE --dry-run --csv FILE` writes all
    of them, with the values.
    """
    with _open_store(options, tenant) as (store, settings):
        run = _complete_run_id(_list_runs(store, settings, tenant), run)
        stored_run, state = _find_run(store, settings, tenant, run)
        names = _administrator_names(store)
    if csv_file is not None:
        _write_quarantined_rows(csv_file, stored_run)
    echo_result(as_json, stored_run.to_dict(state), complete_hints(_run_text(stored_run, state, names)))


@imports_group.command(
    "approve",
    short_help="Apply a held import exactly as it was held.",
    epilog="Example: chalk-flask imports approve run-6f1d2c3b-...",
)
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def approve(run: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Apply a held import: exactly the held bytes, if the roster has not changed since.

    RUN is the id of the run or its beginning, or `latest` for the last held one.

    An import that was held more than 7 days ago can only be discarded.
    """
    from chalk_flask.roster.tenant_imports import approve_import

    with _open_store(options, tenant) as (store, settings), progress_line() as on_progress:
        run = _complete_run_id(_held_runs(store, settings, tenant), run)
        report = approve_import(store, settings, tenant, run, requested_by=current_user(), on_progress=on_progress)
    echo_report(report, as_json=as_json)
    if report.state == "refused":
        raise click.exceptions.Exit(1)


@imports_group.command("discard", epilog="Example: chalk-flask imports discard run-6f1d2c3b-...")
@click.argument("run", metavar="RUN")
@tenant_option
@as_json_option
@settings_options("data")
def discard(run: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Discard a held import and delete its package. The roster does not change.

    RUN is the id of the run or its beginning, or `latest` for the last held one.
    """
    from chalk_flask.roster.tenant_imports import discard_import

    with _open_store(options, tenant) as (store, settings):
        run = _complete_run_id(_held_runs(store, settings, tenant), run)
        discarded = discard_import(store, settings, tenant, run, requested_by=current_user())
    echo_result(as_json, discarded.to_dict("discarded"), f"Discarded {run} and deleted its package.")


@contextmanager
def _open_store(options: Mapping[str, Any], tenant: str) -> Iterator[tuple[RosterStore, Settings]]:
    """Yield the store and its settings, after deleting expired packages. Raises CommandError."""
    from chalk_flask.roster.imports.approval import ApprovalError, MissingPackageError
    from chalk_flask.roster.imports.hold import remove_expired
    from chalk_flask.roster.imports.run_files import store_folder

    settings = settings_from_options(options)
    with open_configured_store(settings) as store:
        check_tenant(store, tenant)
        remove_expired(store, store_folder(settings))
        try:
            yield store, settings
        except MissingPackageError as error:
            hint = f"It was looked for at {error.path}: --data (CHALK_DATA) names another folder."
            raise CommandError(f"{error}. {hint}") from error
        except ApprovalError as error:
            raise CommandError(str(error)) from error


def _list_runs(store: RosterStore, settings: Settings, tenant: str) -> list[tuple[ImportRun, RunState]]:
    from chalk_flask.roster.imports import history
    from chalk_flask.roster.imports.run_files import store_folder

    now = datetime.now(UTC)
    with store.read(tenant) as snapshot:
        runs = history.list_runs(snapshot, store_folder(settings), tenant)
        return [(run, run.current_state(now, snapshot)) for run in runs]


def _held_runs(store: RosterStore, settings: Settings, tenant: str) -> list[tuple[ImportRun, RunState]]:
    return [(run, state) for run, state in _list_runs(store, settings, tenant) if run.state == "held"]


def _complete_run_id(runs: Sequence[tuple[ImportRun, RunState]], text: str) -> str:
    """Return the id of the run that `latest` or the beginning of an id names; another text is returned unchanged.

    Raises CommandError if several runs or none are meant.
    """
    if text == "latest":
        if not runs:
            raise CommandError("there is no such import: `chalk-flask imports list` shows all imports")
        return runs[-1][0].id
    candidates = [run.id for run, _ in runs if text.startswith("run-") and run.id.startswith(text)]
    if len(candidates) > 1:
        raise CommandError(f"{len(candidates)} imports begin with {text!r}: give more characters of the id")
    return candidates[0] if candidates else text


def _list_jobs_without_result(store: RosterStore, tenant: str) -> list[Job]:
    from chalk_flask.jobs.record import list_jobs

    with store.read(tenant) as snapshot:
        return [*list_jobs(snapshot, "failed"), *list_jobs(snapshot, "running", "queued")]


def _administrator_names(store: RosterStore) -> dict[str, str]:
    """Return the names of administrators by id: runs and jobs of the console contain their ids."""
    from backends import CONTROL
    from chalk_flask.admins.store import list_names

    with store.read(CONTROL) as control:
        return list_names(control)


def _find_run(store: RosterStore, settings: Settings, tenant: str, run: str) -> tuple[ImportRun, RunState]:
    from chalk_flask.roster.tenant_imports import find_import

    with store.read(tenant) as snapshot:
        run = _run_of_job(snapshot, run)
    found = find_import(store, settings, tenant, run)
    if found is None:
        raise CommandError(f"there is no import {run[:80]!r}: `chalk-flask imports list` shows all imports")
    return found


def _run_of_job(snapshot: Snapshot, run: str) -> str:
    """Return the id of the run of a finished job, or the id itself if it is no job.

    Raises CommandError for a job without a run.
    """
    from chalk_flask.jobs.record import find_job

    job = find_job(snapshot, run)
    if job is None:
        return run
    if job.state == "finished" and job.run:
        return job.run
    reason = f": {job.message}" if job.message else ""
    raise CommandError(f"the {job.kind.replace('_', ' ')} {job.id} is {job.state}, so it has no run{reason}")


def _write_quarantined_rows(path: Path, run: ImportRun) -> None:
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.roster.package.quarantine import write_csv

    write_csv(path, ImportReport.from_dict(run.report).quarantined_rows)


def _run_text(run: ImportRun, state: RunState, names: Mapping[str, str]) -> str:
    from chalk_flask.roster.imports.report import ImportReport

    lines = [
        f"run      {run.id}",
        f"started  {run.started}",
        f"by       {names.get(run.who, run.who) or 'unknown'}",
        f"sha256   {run.sha256 or 'unknown'}",
    ]
    if run.settled:
        settled_by = names.get(run.settled_by or "", run.settled_by)
        lines.append(f"{'approved' if state != 'discarded' else 'discarded'} {run.settled} by {settled_by}")
    return "\n".join([*lines, "", ImportReport.from_dict({**run.report, "state": state}).to_text()])


def _list_text(runs: Sequence[tuple[ImportRun, RunState]], jobs: Sequence[Job], names: Mapping[str, str]) -> str:
    if not runs and not jobs:
        return "There were no imports in the last 90 days."
    tables = [*([_table(runs, names)] if runs else []), *([_job_table(jobs, names)] if jobs else [])]
    return "\n\n".join(tables)


def _job_table(jobs: Iterable[Job], names: Mapping[str, str]) -> str:
    from chalk_flask.roster.package.problems import to_one_line

    rows = [
        (job.id, job.created, job.state, by, job.kind, to_one_line(job.package), job.message or "")
        for job in jobs
        for by in [names.get(job.requested_by, job.requested_by)]
    ]
    return format_table(("JOB", "CREATED", "STATE", "BY", "KIND", "PACKAGE", "MESSAGE"), rows)


def _table(runs: Iterable[tuple[ImportRun, RunState]], names: Mapping[str, str]) -> str:
    from chalk_flask.roster.package.problems import to_one_line

    rows = []
    for run, state in runs:
        total = run.report["total"]
        outcomes = ("created", "updated", "deleted", "revived", "unchanged")
        # Only what was applied is counted.
        counts = [f"{total[outcome]:,}" if state == "committed" else "-" for outcome in outcomes]
        by = names.get(run.who, run.who)
        rows.append((run.id, run.started, state, by, *counts, to_one_line(run.report["package"])))
    head = ("RUN", "STARTED", "STATE", "BY", "CREATED", "UPDATED", "DELETED", "REVIVED", "UNCHANGED", "PACKAGE")
    return format_table(head, rows)
