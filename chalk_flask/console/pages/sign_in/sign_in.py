"""Sign-in: the first step asks for name and password, the second step for a one-time code if it is required."""

from __future__ import annotations

from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from wtforms import PasswordField
from wtforms.validators import InputRequired

from chalk_flask.admins import SessionError, SignInError, TooManyAttemptsError
from chalk_flask.admins.record import Administrator
from chalk_flask.client_network import client_network
from chalk_flask.console.context import current_services, pending_sign_in, signed_in
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.redirects import redirect_to, safe_path
from chalk_flask.console.session_cookie import (
    delete_session_cookie,
    known_browser,
    remember_browser,
    rotate_page_session,
    set_session_cookie,
)
from chalk_flask.console.widgets.forms import ConsoleForm, TextField

__all__ = [
    "begin_session",
    "check_code",
    "client_address",
    "show_code_form",
    "show_sign_in",
    "sign_in",
    "sign_in_page",
    "sign_out",
    "too_many",
]

MAX_USER_AGENT_LENGTH = 512


class SignInForm(ConsoleForm):
    """Form for name and password."""

    name = TextField("Name", [InputRequired("Enter your name.")])
    password = PasswordField("Password", [InputRequired("Enter your password.")])


class CodeForm(ConsoleForm):
    """Form for a one-time code."""

    code = TextField("Code", [InputRequired("Enter the code.")])


def show_sign_in() -> ResponseReturnValue:
    """Show the form for name and password. Redirect an administrator who is signed in to the requested page."""
    if signed_in() is not None:
        return redirect_to(request.args.get("next", ""))
    return sign_in_page()


def sign_in() -> ResponseReturnValue:
    """Verify name and password, and begin a session."""
    form = SignInForm()
    if not form.validate():
        return sign_in_page(form, status=422)
    name = form.name.data or ""
    try:
        administrator = current_services().sign_in.authenticate(
            name, form.password.data or "", client_address(), known_browser(request, name)
        )
    except SignInError:
        return sign_in_page(form, "The name or the password is wrong.", 422)
    except TooManyAttemptsError as error:
        return too_many(sign_in_page(form, format_sentence(error), 429), error)
    return begin_session(administrator, request.args.get("next", ""))


def begin_session(administrator: Administrator, path: str) -> Response:
    """Return a redirect to a path that begins a session, or to the form for the one-time code first.

    A session that the browser already has is ended: session ids are never reused.
    """
    services = current_services()
    former = signed_in() or pending_sign_in()
    if former is not None:
        services.sessions.end(former.session.id_hash)
    user_agent = request.user_agent.string[:MAX_USER_AGENT_LENGTH]
    try:
        secret, session = services.sessions.create(administrator, client_address(), user_agent)
    except SessionError:
        return _start_again()
    code_url = url_for("console.show_code_form", next=safe_path(path) or None)
    response = redirect_to(path) if session.totp_done else redirect(code_url, 303)
    set_session_cookie(response, secret)
    rotate_page_session(session.id_hash)
    if session.totp_done:
        remember_browser(response, administrator.name)
    return make_response(response)


def show_code_form() -> ResponseReturnValue:
    """Show the form for the one-time code."""
    if pending_sign_in() is None:
        return redirect(url_for("console.show_sign_in"), 303)
    return _code_page(CodeForm(formdata=None))


def check_code() -> ResponseReturnValue:
    """Verify the one-time code or recovery code, and complete the sign-in with a new session id."""
    pending, form, services = pending_sign_in(), CodeForm(), current_services()
    if pending is None:
        return redirect(url_for("console.show_sign_in"), 303)
    if not form.validate():
        return _code_page(form, status=422)
    name = pending.administrator.name
    try:
        services.sign_in.verify_code(
            pending.administrator, form.code.data or "", client_address(), known_browser(request, name)
        )
    except SignInError:
        return _code_page(form, "The code is wrong or was already used. Wait for the next one.", 422)
    except TooManyAttemptsError as error:
        return too_many(_code_page(form, format_sentence(error), 429), error)
    try:
        secret, session = services.sessions.complete_totp(pending.session)
    except SessionError:
        return _start_again()
    response = redirect_to(request.args.get("next", ""))
    set_session_cookie(response, secret)
    rotate_page_session(session.id_hash)
    remember_browser(response, name)
    return response


def _start_again() -> Response:
    """Redirect to the first step, because the account was changed or the session ended after the password."""
    flash("The sign-in was interrupted. Sign in again.", "warning")
    return make_response(redirect(url_for("console.show_sign_in"), 303))


def sign_out() -> ResponseReturnValue:
    """End the session, also for copies of its cookie."""
    former = signed_in() or pending_sign_in()
    if former is not None:
        current_services().sessions.end(former.session.id_hash)
    rotate_page_session("")
    flash("You are signed out.", "success")
    response = redirect(url_for("console.show_sign_in"), 303)
    delete_session_cookie(response)
    return response


def client_address() -> str:
    """Return the address of the client, by which attempts are counted: the network of an IPv6 client."""
    return client_network(request.remote_addr)


def sign_in_page(form: SignInForm | None = None, problem: str = "", status: int = 200, path: str = "") -> Response:
    """Return the page with the form for name and password, and with the button of the identity provider.

    `path` is the path to show after sign-in, by default that of the request.
    """
    form = form or SignInForm(formdata=None)
    form.password.data = None
    oidc = current_services().oidc_sign_in
    path = safe_path(path or request.args.get("next", ""))
    text = render_template(
        "console/sign_in/sign_in.html",
        form=form,
        problem=problem,
        action=url_for("console.sign_in", next=path or None),
        provider=oidc.provider_name if oidc else "",
        provider_url=url_for("console.begin_oidc_sign_in", next=path or None),
    )
    return make_response(text, status)


def _code_page(form: CodeForm, problem: str = "", status: int = 200) -> Response:
    form.code.data = None
    text = render_template(
        "console/sign_in/code.html",
        form=form,
        problem=problem,
        action=url_for("console.check_code", next=safe_path(request.args.get("next", "")) or None),
    )
    return make_response(text, status)


def too_many(response: Response, error: TooManyAttemptsError) -> Response:
    """Return the response with the time after which another attempt is allowed."""
    response.headers["Retry-After"] = str(error.retry_after)
    return response
