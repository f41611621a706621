"""Error pages of the console. Status, message and log entry of an error are those of the API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from flask import Blueprint, Flask, Response, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response as WerkzeugResponse

from backends import StorageError
from chalk_flask.api.errors import error_response_to
from chalk_flask.auth.secrets.key_file import KeyFileError
from chalk_flask.console.security_headers import add_security_headers
from chalk_flask.console.session_cookie import page_sessions

__all__ = ["register_for_pages", "register_for_unknown_paths"]

TITLES = {
    400: "This request cannot be processed",
    401: "Sign in again",
    403: "You do not have access to this page",
    404: "There is no such page",
    405: "This page does not accept this request",
    409: "Nothing was changed",
    413: "This file is too large",
    429: "Too many requests",
    503: "The service is busy",
}
"""Titles of error pages by status."""

MESSAGES = {
    404: "The address is wrong, or the object was deleted or belongs to another tenant.",
    405: "Open the page from the navigation.",
    413: "Send a smaller file.",
}
"""Messages of error pages by status, in place of those of the API."""

CSRF_MESSAGE = (
    "The form is out of date, or it was not sent from this page. Nothing was changed. Go back, reload the page, and"
    " send the form again."
)


def register_for_pages(blueprint: Blueprint) -> None:
    """Render every error of the console's routes as a page."""
    blueprint.register_error_handler(Exception, _error_page)


def register_for_unknown_paths(app: Flask, api_prefixes: tuple[str, ...], load_session: Callable[[], None]) -> None:
    """Render errors of paths outside the API as pages, if the client prefers HTML.

    `load_session` finds the administrator, so that the page has the navigation.
    """

    def on_routing_error(error: HTTPException) -> Response | WerkzeugResponse:
        is_api = request.path.startswith(api_prefixes)
        if is_api or request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
            return error_response_to(error)
        with suppress(StorageError, KeyFileError):
            page_sessions().key()  # without it, the request has no page session to rotate
            load_session()
        return add_security_headers(_error_page(error))

    app.register_error_handler(NotFound, on_routing_error)
    app.register_error_handler(MethodNotAllowed, on_routing_error)


def _error_page(error: Exception) -> Response | WerkzeugResponse:
    answer = error_response_to(error)
    if answer.status_code < 400 or not request.accept_mimetypes.accept_html:
        return answer
    page = make_response(
        render_template(
            "console/error.html",
            status=answer.status_code,
            title=TITLES.get(answer.status_code, "Something went wrong"),
            message=_message(error, answer),
            reference=_reference(answer) if answer.status_code >= 500 else "",
        ),
        answer.status_code,
    )
    for name in ("Allow", "Retry-After"):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def _message(error: Exception, answer: Response | WerkzeugResponse) -> str:
    if isinstance(error, CSRFError):
        return CSRF_MESSAGE
    own = error.description if isinstance(error, HTTPException) and error.description != type(error).description else ""
    if own:
        return own
    return MESSAGES.get(answer.status_code) or str(answer.get_json()["message"])


def _reference(answer: Response | WerkzeugResponse) -> str:
    return str(answer.get_json()["statusInfoSet"][0]["imsx_messageRefIdentifier"])
