"""Blueprint of the console: binds the routes, and checks session, permission, CSRF token and tenant of each request."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, flash, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import Conflict, Forbidden, RequestEntityTooLarge, ServiceUnavailable, Unauthorized

from chalk_flask.admins.record import Administrator
from chalk_flask.admins.roles import OPERATOR_PERMISSIONS, Permission
from chalk_flask.audit.actor import set_actor
from chalk_flask.console import errors
from chalk_flask.console.context import ConsoleRequest, PendingSignIn, current_services, pending_sign_in, signed_in
from chalk_flask.console.formatting import format_bytes
from chalk_flask.console.routes import ROUTES, ConsoleRoute
from chalk_flask.console.security_headers import add_security_headers
from chalk_flask.console.session_cookie import OWNER_LENGTH, page_sessions, rotate_page_session, session_secret
from chalk_flask.console.submissions import SubmissionError, SubmissionStore
from chalk_flask.monitoring import describe_service, prefers_page
from chalk_flask.server import BODY_REJECTED_KEY
from chalk_flask.services import Services

__all__ = ["CSRF_CONFIG", "NAME", "console_blueprint", "load_session"]

NAME = "console"

CSRF_CONFIG = {
    "WTF_CSRF_METHODS": {"POST"},
    "WTF_CSRF_FIELD_NAME": "csrf_token",
    "WTF_CSRF_HEADERS": ["X-CSRFToken"],
    "WTF_CSRF_TIME_LIMIT": None,  # the page session, which contains the token, has a maximum age
    "WTF_CSRF_SSL_STRICT": False,  # the Referer of a proxy's client need not match the Host that arrives here
}
"""Configuration of Flask-WTF. `CSRFProtect.init_app` would add a hook to every request of the API."""

OTHER_TENANT_MESSAGE = (
    "This form belongs to another tenant than the one that is selected now. Nothing was changed. Open the page again."
)

MAX_FORM_PARTS = 50
"""Maximum number of parts of a form with a file. Small parts are in memory."""

BUSY_MESSAGE = "Other uploads are in progress. Nothing was changed. Try again in a minute."
BUSY_SECONDS = 60
DISK_MESSAGE = "The server has no space for this file. Nothing was changed. Tell the operator of the service."

_ROUTES = {f"{NAME}.{route.endpoint}": route for route in ROUTES}
_PUBLIC_FILES, _SIGN_OUT, _DASHBOARD = f"{NAME}.serve_static", f"{NAME}.sign_out", f"{NAME}.show_dashboard"
_csrf = CSRFProtect()


def console_blueprint() -> Blueprint:
    """Return the blueprint with every route. Its hooks run for its own requests only."""
    blueprint = Blueprint(NAME, __name__, template_folder="templates")
    for route in ROUTES:
        blueprint.add_url_rule(
            route.path, route.endpoint, route.view, methods=route.methods, provide_automatic_options=False
        )
    blueprint.before_request(_check_request)
    blueprint.teardown_request(_end_request)
    blueprint.after_request(_complete_submission)
    blueprint.after_request(add_security_headers)
    errors.register_for_pages(blueprint)
    return blueprint


def _check_request() -> ResponseReturnValue | None:
    """Reject or redirect a request, or return None to run the view."""
    if request.endpoint == _PUBLIC_FILES:
        return None
    if request.endpoint == _DASHBOARD and not prefers_page(request):
        return describe_service(request, current_services())
    current_app.config["WTF_CSRF_SECRET_KEY"] = page_sessions().key()
    route = _ROUTES[request.endpoint or ""]
    load_session(is_activity=not route.is_polled)
    if (console := signed_in()) is not None:
        set_actor(console.administrator.id)
    if route.permission is not None and (rejection := _check_sign_in(route)) is not None:
        return rejection
    if request.method != "POST":
        return None
    if request.endpoint == _SIGN_OUT and signed_in() is None and pending_sign_in() is None:
        return redirect(url_for("console.show_sign_in"), 303)
    _check_form(route)
    return _begin_submission()


def _end_request(_: BaseException | None) -> None:
    """Clear the actor, because the thread continues with requests of other administrators."""
    set_actor(None)


def load_session(*, is_activity: bool = True) -> None:
    """Set `g.console` for an administrator who is signed in, or `g.pending_sign_in` if a code is still missing.

    Unless `is_activity`, the request does not keep the session alive.
    """
    services = current_services()
    secret = session_secret(request)
    found = services.sessions.find(secret, is_activity=is_activity) if secret else None
    administrator = services.administrators.get(found.administrator_id) if found else None
    if found is not None and administrator is not None and not _is_accepted(services, administrator):
        services.sessions.end(found.id_hash)
        administrator = None
    if found is not None and administrator is not None:
        if found.totp_done:
            g.console = ConsoleRequest(services, administrator, found, found.tenant)
        else:
            g.pending_sign_in = PendingSignIn(administrator, found)
    owner = found.id_hash[:OWNER_LENGTH] if found and administrator else ""
    if session.get("owner", "") != owner:
        rotate_page_session(owner)  # forms of a former session are not valid in this one


def _is_accepted(services: Services, administrator: Administrator) -> bool:
    """Return False for an external administrator if the settings that gave the access have changed since."""
    oidc = services.oidc_sign_in
    return not administrator.is_external or (oidc is not None and oidc.accepts(administrator))


def _check_sign_in(route: ConsoleRoute) -> ResponseReturnValue | None:
    console = signed_in()
    if console is None:
        return _redirect_to_sign_in()
    assert route.permission is not None
    if not console.allows(route.permission):
        raise Forbidden(_forbidden_message(console.administrator, route.permission))
    return None


def _forbidden_message(administrator: Administrator, permission: Permission) -> str:
    if permission in OPERATOR_PERMISSIONS and not administrator.is_operator:
        return "This page is for operators, who have access to all tenants."
    return f"Your role, {administrator.role}, does not include this page. Ask an owner for the role you need."


def _redirect_to_sign_in() -> ResponseReturnValue:
    if pending_sign_in() is not None:
        return redirect(url_for("console.show_code_form"), 303)
    if not request.accept_mimetypes.accept_html:
        raise Unauthorized("Your session has ended. Sign in again.")
    if request.method == "POST":
        flash("Your session has ended, so the last change was not saved. Sign in again.", "warning")
        return redirect(url_for("console.show_sign_in"), 303)
    target = request.full_path.rstrip("?")
    return redirect(url_for("console.show_sign_in", next=None if target == "/" else target), 303)


def _check_form(route: ConsoleRoute) -> None:
    """Raise CSRFError (400) without a valid CSRF token, and Conflict for a form of another tenant.

    Raises RequestEntityTooLarge or ServiceUnavailable if the server dropped the body, which contained the CSRF token.
    """
    _check_body()
    request.max_form_parts = MAX_FORM_PARTS
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise CSRFError("The form was sent by another site.")
    _csrf.protect()
    console = signed_in()
    if console and route.permission is not None and request.form.get("tenant") != console.tenant:
        raise Conflict(OTHER_TENANT_MESSAGE)


def _check_body() -> None:
    match request.environ.get(BODY_REJECTED_KEY):
        case None:
            return
        case "busy":
            raise ServiceUnavailable(BUSY_MESSAGE, retry_after=BUSY_SECONDS)
        case "disk_full":
            raise ServiceUnavailable(DISK_MESSAGE)
        case _:  # only the upload form accepts large bodies
            limit = format_bytes(current_services().jobs.max_upload_bytes)
            raise RequestEntityTooLarge(
                f"A package can have at most {limit}. Nothing was changed. Upload a smaller file, or ask the operator"
                " of the service to raise the setting upload_max_mb."
            )


def _begin_submission() -> ResponseReturnValue | None:
    """Return a redirect if this form was already submitted."""
    submission_id = request.form.get("submission", "")
    if not submission_id or signed_in() is None:
        return None
    try:
        location = SubmissionStore(current_services().store).begin_or_wait(submission_id)
    except SubmissionError as error:
        flash(str(error), "warning")
        return redirect(url_for("console.show_dashboard"), 303)
    if location is not None:
        return redirect(location, 303)
    g.submission_id = submission_id
    return None


def _complete_submission(response: Response) -> Response:
    submission_id = g.get("submission_id")
    if submission_id is not None:
        location = response.headers.get("Location") if response.status_code < 400 else None
        SubmissionStore(current_services().store).complete(submission_id, location)
    return response
