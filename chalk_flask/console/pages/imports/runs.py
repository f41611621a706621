"""Page of an import run with its report, and the decision about a held package."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import ConsoleRequest, current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.navigation import section_url
from chalk_flask.console.pages.imports.held_changes import change_list_of
from chalk_flask.console.pages.imports.jobs import find_job_or_abort, job_page
from chalk_flask.console.pages.imports.report import problem_page, problems_csv
from chalk_flask.console.pages.imports.texts import reason_text, render_import_page
from chalk_flask.jobs import JobError
from chalk_flask.roster.imports.approval import ApprovalError
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.roster.imports.thresholds import ChangeThresholds
from chalk_flask.roster.tenant_imports import discard_import, find_import
from chalk_flask.tenants.store import TenantStore

__all__ = ["approve_held", "discard_held", "download_problems", "find_run_or_abort", "show_import"]

JOB_PREFIX = "job-"


@dataclass(frozen=True, slots=True)
class FoundRun:
    """Import run with its current state and its report."""

    run: ImportRun
    state: RunState
    report: ImportReport


def show_import(import_id: str) -> ResponseReturnValue:
    """Show an import run, or the job that will create it."""
    if not import_id.startswith(JOB_PREFIX):
        return _run_page(find_run_or_abort(import_id))
    job = find_job_or_abort(import_id)
    if job.state == "finished" and job.kind != "dry_run" and job.run and _find_run(current(), job.run):
        return redirect(url_for("console.show_import", import_id=job.run), 303)
    return job_page(job)


def approve_held(import_id: str) -> ResponseReturnValue:
    """Queue the job that applies a held package."""
    console, found = current(), find_run_or_abort(import_id)
    try:
        job = console.services.jobs.approve(console.tenant, found.run.id, requested_by=console.administrator.id)
    except JobError as error:
        abort(409, format_sentence(error))
    return redirect(url_for("console.show_import", import_id=job.id), 303)


def discard_held(import_id: str) -> ResponseReturnValue:
    """Delete a held package without applying it."""
    console, found = current(), find_run_or_abort(import_id)
    if console.services.jobs.find_approval(console.tenant, found.run.id):
        abort(409, "The package is being approved now. Wait for the result.")
    services = console.services
    try:
        discard_import(
            services.store,
            services.settings,
            console.tenant,
            found.run.id,
            requested_by=console.administrator.id,
        )
    except ApprovalError as error:
        abort(409, format_sentence(error))
    flash("The package was discarded. The roster has not changed.", "success")
    return redirect(url_for("console.show_import", import_id=found.run.id), 303)


def download_problems(import_id: str) -> ResponseReturnValue:
    """Send the problems of a run or of a dry run as a CSV file."""
    if import_id.startswith(JOB_PREFIX):
        job = find_job_or_abort(import_id)
        if job.report is None:
            abort(404)
        report = ImportReport.from_dict(job.report)
    else:
        report = find_run_or_abort(import_id).report
    name = f'attachment; filename="{import_id}-problems.csv"'
    return Response(problems_csv(report), mimetype="text/csv", headers={"Content-Disposition": name})


def find_run_or_abort(run_id: str) -> FoundRun:
    """Return the run of the tenant with this id. Raises NotFound."""
    found = _find_run(current(), run_id)
    if found is None:
        abort(404)
    return found


def _find_run(console: ConsoleRequest, run_id: str) -> FoundRun | None:
    services = console.services
    found = find_import(services.store, services.settings, console.tenant, run_id)
    if found is None:
        return None
    run, state = found
    return FoundRun(run, state, ImportReport.from_dict({**run.report, "state": state}))


def _run_page(found: FoundRun) -> str:
    console, report = current(), found.report
    tenant = TenantStore(console.services.store).get(console.tenant)
    return render_import_page(
        "run.html",
        run=found.run,
        state=found.state,
        report=report,
        reasons=[reason_text(exceeded) for exceeded in report.exceeded],
        approval=console.services.jobs.find_approval(console.tenant, found.run.id) if found.state == "held" else None,
        changes=change_list_of(console, found.run.id) if found.state == "held" else None,
        problems=problem_page(report),
        settings_url=section_url("/settings"),
        thresholds=ChangeThresholds.parse(tenant.max_deleted, tenant.max_changed, tenant.max_quarantined),
    )
