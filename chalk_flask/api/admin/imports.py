"""Views of imports: upload of a package, state of its job, and decision about a held package.

They call the same functions as the console and the command line, and return the JSON objects that `--json` prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import orjson
from flask import Request, Response, request

from chalk_flask.api.admin.package_body import RETRY_SECONDS, open_package, parse_import_parameters
from chalk_flask.api.admin.paths import IMPORTS_PATH
from chalk_flask.api.auth.authentication import current_principal
from chalk_flask.api.errors import ApiError
from chalk_flask.api.public_url import request_base_url
from chalk_flask.jobs import Job, JobError, UploadError
from chalk_flask.jobs.store import QueueFullError
from chalk_flask.jobs.uploads import DiskFullError, UploadTooLargeError
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.permissions.principal import Principal
from chalk_flask.roster.imports.approval import ApprovalError
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.report import RunState
from chalk_flask.roster.tenant_imports import discard_import, find_import
from chalk_flask.services import Services
from chalk_flask.tenants.store import TenantError

__all__ = ["approve_import", "create_import", "discard_held_import", "get_import"]

_FILE_MESSAGE = (
    "A file of the service cannot be read or written. Tell the operator to check the folder of the setting `data`."
)
_RESTRICTED_MESSAGE = (
    "This credential is restricted to some records, so it cannot import: a package can change every record. Use a"
    " credential without restrictions."
)


def create_import(services: Services) -> Response:
    """Queue the import of the package in the body. If the same package is queued or running, return its job."""
    principal, current = _unrestricted_principal(), _current_request()
    choices, dry_run = parse_import_parameters(current.args)
    with _errors_as_responses(), open_package(current, services.jobs.max_upload_bytes) as (stream, name):
        job = services.jobs.upload_import(
            principal.tenant,
            stream,
            name,
            requested_by=principal.credential_id,
            choices=choices,
            dry_run=dry_run,
            reuse_active=True,
        )
    return _accepted_response(services, job)


def get_import(services: Services, id: str) -> Response:  # noqa: A002 - name of the id in the path
    """Return a job, or an import run."""
    tenant = _unrestricted_principal().tenant
    job = services.jobs.get(tenant, id)
    if job is not None:
        return _json_response(_job_object(services, job))
    with _errors_as_responses():
        run, state = _find_run(services, tenant, id)
    return _json_response(run.to_dict(state))


def approve_import(services: Services, id: str) -> Response:  # noqa: A002 - name of the id in the path
    """Queue the approval of a held import."""
    principal = _unrestricted_principal()
    with _errors_as_responses():
        run, state = _find_run(services, principal.tenant, _run_id(services, principal.tenant, id))
        if state != "held":
            raise ApiError(409, f"{run.id} cannot be approved: it is {state}.")
        job = services.jobs.approve(principal.tenant, run.id, requested_by=principal.credential_id)
    return _accepted_response(services, job)


def discard_held_import(services: Services, id: str) -> Response:  # noqa: A002 - name of the id in the path
    """Delete a held package without applying it."""
    principal = _unrestricted_principal()
    with _errors_as_responses():
        run, _ = _find_run(services, principal.tenant, _run_id(services, principal.tenant, id))
        if run.state != "held":
            raise ApiError(409, f"{run.id} cannot be discarded: it is {run.state}.")
        if services.jobs.find_approval(principal.tenant, run.id):
            raise ApiError(409, "The package is being approved now. Wait for the result.")
        discarded = discard_import(
            services.store, services.settings, principal.tenant, run.id, requested_by=principal.credential_id
        )
    return _json_response(discarded.to_dict("discarded"))


def _current_request() -> Request:
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    return current


def _unrestricted_principal() -> Principal:
    """Return the principal. Raises ApiError (403) if it has access restrictions."""
    principal = current_principal()
    if principal.is_restricted:
        raise ApiError(403, _RESTRICTED_MESSAGE)
    return principal


def _run_id(services: Services, tenant: str, import_id: str) -> str:
    """Return the id of the run of a job, or the id itself if no job has it. Raises ApiError (409) without a run."""
    job = services.jobs.get(tenant, import_id)
    if job is None:
        return import_id
    if job.run is None:
        raise ApiError(409, f"{job.id} has no import run, so there is nothing to decide: it is {job.state}.")
    return job.run


def _find_run(services: Services, tenant: str, run_id: str) -> tuple[ImportRun, RunState]:
    """Return a run of the tenant with its current state. Raises ApiError (404), StorageError and OSError."""
    found = find_import(services.store, services.settings, tenant, run_id)
    if found is None:
        raise ApiError(404, f"There is no import {printable(run_id)} in this tenant.")
    return found


@contextmanager
def _errors_as_responses() -> Iterator[None]:
    """Convert errors of uploads, jobs and files into ApiError. None of them has changed anything."""
    try:
        yield
    except UploadTooLargeError as error:
        raise ApiError(413, f"{error}.") from None
    except DiskFullError as error:
        raise ApiError(503, f"{error}.", retry_after=RETRY_SECONDS) from None
    except UploadError as error:
        raise ApiError(422, f"{error}.") from None
    except QueueFullError as error:
        raise ApiError(429, f"{error}.", retry_after=RETRY_SECONDS) from None
    except (JobError, ApprovalError) as error:
        raise ApiError(409, f"{error}.") from None
    except TenantError as error:
        raise ApiError(404, f"{error}.") from None
    except OSError as error:
        raise ApiError(503, _FILE_MESSAGE, retry_after=RETRY_SECONDS) from error


def _accepted_response(services: Services, job: Job) -> Response:
    base_url = request_base_url(_current_request(), services.settings.public_url)
    location = f"{base_url}{IMPORTS_PATH}/{quote(job.id, safe='')}"
    return _json_response(_job_object(services, job), 202, [("Location", location)])


def _job_object(services: Services, job: Job) -> dict[str, Any]:
    """Return the job with its progress, and with its report if it is finished."""
    progress = services.jobs.progress(job)
    return {**job.to_dict(), "progress": progress.to_dict() if progress else None, "report": job.report}


def _json_response(data: dict[str, Any], status: int = 200, headers: list[tuple[str, str]] | None = None) -> Response:
    common = [("Content-Type", "application/json"), ("Cache-Control", "private, no-store")]
    return Response(orjson.dumps(data), status, headers=[*common, *(headers or [])])
