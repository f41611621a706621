"""Examples of jobs and import runs, from the import of the sample district."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chalk_flask.api.admin import AdminRoute
from chalk_flask.jobs import Job
from chalk_flask.openapi.examples import TENANT, TIMESTAMP
from chalk_flask.openapi.json_schemas import JSONObject
from chalk_flask.roster.imports import ImportOptions, ImportReport, history
from chalk_flask.roster.imports.history import ImportRun

__all__ = ["JOB_ID", "import_examples"]

JOB_ID = "job-6f1f6c06-0c1b-4a0e-9d5f-0d0f6a5b7c11"
RUN_ID = "run-0b9d1f7e-58a3-4a7c-8a53-6f0a4c3b2d10"
CREDENTIAL_ID = "token-1"
PACKAGE = "district.zip"
SECONDS = 0.5

_QUEUED = Job(id=JOB_ID, tenant=TENANT, kind="import", requested_by=CREDENTIAL_ID, created=TIMESTAMP, package=PACKAGE)


def import_examples(report: ImportReport) -> Callable[[AdminRoute], JSONObject]:
    """Return a function that returns the example of the response of a route.

    The ids and times of the report are replaced, so that the description is the same at each start.
    """
    report = replace(report, run=RUN_ID, package=PACKAGE, timestamp=TIMESTAMP, seconds=SECONDS)

    def example_of(route: AdminRoute) -> JSONObject:
        if route.result == "run":
            return _discarded_run(report).to_dict("discarded")
        job = _QUEUED if route.result == "job" else _finished_job(report)
        if not route.accepts_package and route.result == "job":
            job = replace(job, kind="approve", run=RUN_ID)
        return {**job.to_dict(), "progress": None, "report": job.report}

    return example_of


def _finished_job(report: ImportReport) -> Job:
    summary = history.summary(report, "committed")
    return replace(_QUEUED, state="finished", started=TIMESTAMP, finished=TIMESTAMP, run=RUN_ID, report=summary)


def _discarded_run(report: ImportReport) -> ImportRun:
    summary = history.summary(replace(report, timestamp=None), "discarded")
    return ImportRun(
        id=RUN_ID,
        tenant=TENANT,
        state="discarded",
        who=CREDENTIAL_ID,
        started=TIMESTAMP,
        options=ImportOptions().to_dict(),
        report=summary,
        settled_by=CREDENTIAL_ID,
        settled=TIMESTAMP,
    )
