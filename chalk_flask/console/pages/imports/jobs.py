"""Page of a job with its progress, and the actions of jobs."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, jsonify, redirect, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.imports.report import problem_page
from chalk_flask.console.pages.imports.texts import phase_label, reason_text, render_import_page
from chalk_flask.jobs import Job, JobError, JobProgress
from chalk_flask.roster.imports.report import ImportReport

__all__ = ["cancel_job", "find_job_or_abort", "import_checked", "job_page", "show_progress"]


def job_page(job: Job) -> str:
    """Return the page of a job that has not ended, or that has no import run."""
    report = None if job.report is None else ImportReport.from_dict(job.report)
    return render_import_page(
        "job.html",
        job=job,
        phases=_phases(current().services.jobs.progress(job)),
        report=report,
        reasons=[] if report is None else [reason_text(exceeded) for exceeded in report.exceeded],
        problems=None if report is None else problem_page(report),
        message=None if job.message is None else format_sentence(job.message),
    )


def show_progress(import_id: str) -> ResponseReturnValue:
    """Return the state and the progress of a job as JSON, for the script of its page."""
    job = find_job_or_abort(import_id)
    progress = current().services.jobs.progress(job)
    return jsonify(
        state=job.state,
        isActive=job.is_active,
        location=url_for("console.show_import", import_id=job.id),
        seconds=progress.seconds if progress else None,
        phases=_phases(progress),
    )


def cancel_job(import_id: str) -> ResponseReturnValue:
    """Cancel a queued job."""
    console, job = current(), find_job_or_abort(import_id)
    try:
        console.services.jobs.cancel(console.tenant, job.id, requested_by=console.administrator.id)
    except JobError as error:
        abort(409, format_sentence(error))
    flash("The job was canceled. Nothing was changed.", "success")
    return redirect(url_for("console.list_imports"), 303)


def import_checked(import_id: str) -> ResponseReturnValue:
    """Queue the import of the package that a dry run has checked."""
    console, job = current(), find_job_or_abort(import_id)
    try:
        queued = console.services.jobs.import_checked(console.tenant, job.id, requested_by=console.administrator.id)
    except JobError as error:
        abort(409, format_sentence(error))
    return redirect(url_for("console.show_import", import_id=queued.id), 303)


def find_job_or_abort(job_id: str) -> Job:
    """Return the job of the tenant with this id. Raises NotFound."""
    console = current()
    job = console.services.jobs.get(console.tenant, job_id)
    if job is None:
        abort(404)
    return job


def _phases(progress: JobProgress | None) -> list[dict[str, Any]]:
    """Return the phases so far, the current one last. `total` is None if it is unknown or was too low."""
    if progress is None:
        return []
    return [
        {
            "label": phase_label(phase.name),
            "count": phase.count,
            "total": phase.total if phase.total and phase.total >= phase.count else None,
            "isCurrent": phase is progress.phases[-1],
        }
        for phase in progress.phases
    ]
