"""Table of the routes of the admin API, and their blueprint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flask import Blueprint, Response

from chalk_flask.api.admin import imports
from chalk_flask.api.admin.paths import ADMIN_ROOT
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.url_paths import url_rule
from chalk_flask.permissions.scopes import IMPORTS_WRITE
from chalk_flask.services import Services

__all__ = ["ADMIN_ROUTES", "AdminRoute", "admin_blueprint"]


@dataclass(frozen=True, slots=True, eq=False)
class AdminRoute:
    """Route of the admin API. The view takes the services and the ids of the path."""

    operation: str
    method: Literal["GET", "POST"]
    path: str
    scope: str
    view: Callable[..., Response]
    description: str


# fmt: off
ADMIN_ROUTES = (
    AdminRoute("createImport", "POST", "/imports", IMPORTS_WRITE, imports.create_import,
          "queue the import, or the dry run, of the package in the body; 202 with the job"),
    AdminRoute("getImport", "GET", "/imports/{id}", IMPORTS_WRITE, imports.get_import,
          "a job with its progress and its report, or an import run"),
    AdminRoute("approveImport", "POST", "/imports/{id}/approve", IMPORTS_WRITE, imports.approve_import,
          "queue the approval of a held import; 202 with the job"),
    AdminRoute("discardImport", "POST", "/imports/{id}/discard", IMPORTS_WRITE, imports.discard_held_import,
          "discard a held import; the import run"),
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
