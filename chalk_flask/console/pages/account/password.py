"""Page of the own account, and the change of the own password."""

from __future__ import annotations

from flask import flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict
from wtforms import PasswordField
from wtforms.validators import EqualTo, InputRequired, Length

from chalk_flask.admins import MIN_PASSWORD_LENGTH, AdministratorError, SignInError, TooManyAttemptsError
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.sign_in.sign_in import client_address
from chalk_flask.console.session_cookie import known_browser
from chalk_flask.console.widgets.forms import ConsoleForm

__all__ = ["change_password", "check_has_password", "password_problem", "show_account"]

EXTERNAL_MESSAGE = (
    "You sign in with an identity provider. Nothing was changed: change your password and two-factor sign-in there."
)


class PasswordForm(ConsoleForm):
    """Form for a new password."""

    current_password = PasswordField("Current password", [InputRequired("Enter your current password.")])
    password = PasswordField(
        "New password",
        [Length(min=MIN_PASSWORD_LENGTH, message=f"Use at least {MIN_PASSWORD_LENGTH} characters.")],
        description=f"At least {MIN_PASSWORD_LENGTH} characters. A sentence is easy to remember.",
    )
    repeated = PasswordField("New password again", [EqualTo("password", "The new passwords differ.")])


def show_account() -> ResponseReturnValue:
    """Show the own account: password, two-factor sign-in and sessions."""
    return _account_page(PasswordForm(formdata=None))


def change_password() -> ResponseReturnValue:
    """Change the own password, and end all other sessions."""
    form, console = PasswordForm(), current()
    check_has_password()
    if form.validate():
        problem = password_problem(form.current_password.data or "")
        if problem:
            form.current_password.errors = [problem]
        else:
            try:
                console.services.administrators.change_password(
                    console.administrator.id, form.password.data or "", except_hash=console.session.id_hash
                )
            except AdministratorError as error:
                form.password.errors = [str(error)]
            else:
                flash("Your password is changed. Your other sessions are ended.", "success")
                return redirect(url_for("console.show_account"), 303)
    return _account_page(form, 422)


def check_has_password() -> None:
    """Raise Conflict for an external administrator, whose account is changed at the identity provider."""
    if current().administrator.is_external:
        raise Conflict(EXTERNAL_MESSAGE)


def password_problem(password: str) -> str:
    """Return why the own password is not accepted, or "". Attempts are throttled as at sign-in."""
    console = current()
    browser = known_browser(request, console.administrator.name)
    try:
        console.services.sign_in.confirm_password(console.administrator, password, client_address(), browser)
    except SignInError:
        return "This is not your current password."
    except TooManyAttemptsError as error:
        return format_sentence(error)
    return ""


def _account_page(form: PasswordForm, status: int = 200) -> ResponseReturnValue:
    console = current()
    oidc = console.services.oidc_sign_in
    text = render_template(
        "console/account/account.html",
        form=form,
        administrator=console.administrator,
        provider=oidc.provider_name if oidc else "",
        sessions=console.services.sessions.list_of(console.administrator.id),
    )
    return make_response(text, status)
