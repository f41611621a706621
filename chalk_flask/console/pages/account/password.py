"""Change of the own password."""

from __future__ import annotations

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict

from chalk_flask.admins import AdministratorError, SignInError, TooManyAttemptsError
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.account.account_page import PasswordForm, account_page
from chalk_flask.console.pages.sign_in.sign_in import client_address
from chalk_flask.console.session_cookie import known_browser

__all__ = ["change_password", "check_has_password", "password_problem"]

EXTERNAL_MESSAGE = (
    "You sign in with an identity provider. Nothing was changed: change your password and two-factor sign-in there."
)


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
    return account_page(password_form=form, status=422)


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
