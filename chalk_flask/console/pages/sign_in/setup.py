"""Setup of a new store: the setup link that `serve` prints creates the first operator."""

from __future__ import annotations

from flask import flash, render_template
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound
from wtforms import PasswordField
from wtforms.validators import EqualTo, InputRequired

from chalk_flask.admins import AdministratorError, SetupLinkError
from chalk_flask.console.context import current_services
from chalk_flask.console.pages.sign_in.sign_in import begin_session
from chalk_flask.console.widgets.forms import ConsoleForm, TextField

__all__ = ["set_up", "show_setup"]

INVALID_LINK = (
    "The setup link is invalid, expired or already used. Restart the service to get a new one, or run"
    " `chalk-flask admin create NAME --operator`."
)


class SetupForm(ConsoleForm):
    """Form for the first operator."""

    name = TextField("Name", [InputRequired("Enter a name.")])
    password = PasswordField("Password", [InputRequired("Enter a password.")])
    repeated = PasswordField("Password again", [EqualTo("password", "The passwords differ.")])


def show_setup(secret: str) -> ResponseReturnValue:
    """Show the form for the first operator."""
    if not current_services().setup_link.is_valid(secret):
        raise NotFound(INVALID_LINK)
    return _setup_page(SetupForm(formdata=None), secret)


def set_up(secret: str) -> ResponseReturnValue:
    """Create the first operator, and begin a session. The link becomes invalid."""
    form = SetupForm()
    if not form.validate():
        return _setup_page(form, secret), 422
    try:
        administrator = current_services().setup_link.redeem(secret, form.name.data or "", form.password.data or "")
    except SetupLinkError:
        raise NotFound(INVALID_LINK) from None
    except AdministratorError as error:
        return _setup_page(form, secret, str(error)), 422
    response = begin_session(administrator, "")
    flash("Welcome. You are the first operator of this service.", "success")
    return response


def _setup_page(form: SetupForm, secret: str, problem: str = "") -> str:
    return render_template("console/sign_in/setup.html", form=form, secret=secret, problem=problem)
