"""Table of the routes of the admin API, and their blueprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flask import Blueprint, Response

from chalk_flask.api.admin import imports
from chalk_flask.api.admin.paths import ADMIN_ROOT
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.url_paths import url_rule
from chalk_flask.permissions.scopes import IMPORTS_WRITE
from chalk_flask.services import Services

__all__ = ["ADMIN_ROUTES", "IMPORT_ERRORS", "AdminResult", "AdminRoute", "admin_blueprint"]

AdminResult: TypeAlias = Literal["job", "job or run", "run"]
"""Object of a response: a job, or an import run. A POST that returns a job has queued it (202)."""

IMPORT_ERRORS: Mapping[int, str] = {
    400: "an unknown parameter, an empty body, one that ended too early, or a form with other fields than the package",
    403: "the token lacks the scope `imports.write`, or has access restrictions",
    404: "the tenant of the token has no such import, or is being deleted",
    409: "the import cannot be approved or discarded in its state",
    413: "the package is larger than `upload_max_mb`, or larger than 1 MiB and sent in chunks without a Content-Length",
    422: "the body is not a complete ZIP file",
    429: "20 jobs of the tenant are queued already, or the maximum of requests or failed logins is exceeded",
    503: "the store is busy, too many uploads at once, the disk is full, or a file is not accessible; `Retry-After`:"
    " seconds to wait",
}
"""Reason of each status of an error, as a phrase. docs/how-to/nightly-import.md shows the same table."""


@dataclass(frozen=True, slots=True, eq=False)
class AdminRoute:
    """Route of the admin API. The view takes the services and the ids of the path.

    `errors` are the statuses of errors with a reason in IMPORT_ERRORS.
    """

    operation: str
    method: Literal["GET", "POST"]
    path: str
    scope: str
    view: Callable[..., Response]
    result: AdminResult
    description: str
    errors: tuple[int, ...]

    @property
    def accepts_package(self) -> bool:
        """True if the body of the request is a package."""
        return self.view is imports.create_import

    @property
    def status(self) -> int:
        """Status of a successful response."""
        return 202 if self.result == "job" else 200


# fmt: off
ADMIN_ROUTES = (
    AdminRoute("createImport", "POST", "/imports", IMPORTS_WRITE, imports.create_import, "job",
          "queue the import, or the dry run, of the package in the body; 202 with the job",
          (400, 403, 404, 413, 422, 429, 503)),
    AdminRoute("getImport", "GET", "/imports/{id}", IMPORTS_WRITE, imports.get_import, "job or run",
          "a job with its progress and its report, or an import run",
          (403, 404, 503)),
    AdminRoute("approveImport", "POST", "/imports/{id}/approve", IMPORTS_WRITE, imports.approve_import, "job",
          "queue the approval of a held import; 202 with the job",
          (403, 404, 409, 429, 503)),
    AdminRoute("discardImport", "POST", "/imports/{id}/discard", IMPORTS_WRITE, imports.discard_held_import, "run",
          "discard a held import; the import run",
          (403, 404, 409, 503)),
)
# fmt: on


def admin_blueprint(services: Services, auth: Auth) -> Blueprint:
    """Return the blueprint with every route of the table."""
    blueprint = Blueprint("admin", __name__, url_prefix=ADMIN_ROOT)
    for route in ADMIN_ROUTES:
        guarded = auth.login_required(role=[route.scope])(_view(services, route))
        blueprint.add_url_rule(
            url_rule(route.path), route.operation, guarded, methods=[route.method], provide_automatic_options=False
        )
    return blueprint


def _view(services: Services, route: AdminRoute) -> Callable[..., Response]:
    def view(**ids: str) -> Response:
        return route.view(services, **ids)

    return view
