"""Administrators of the tenant, and operators: list, create, change the role, reset the password, and delete."""

from __future__ import annotations

from flask import flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound
from wtforms import BooleanField, RadioField
from wtforms.validators import InputRequired

from chalk_flask.admins import Administrator, AdministratorError, generate_password
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.session_cookie import flash_secret, take_secret
from chalk_flask.console.widgets.forms import ConsoleForm, TextField, select_choices

__all__ = [
    "change_role",
    "create_administrator",
    "delete_administrator",
    "list_administrators",
    "reset_administrator",
    "show_administrator",
    "show_new_administrator",
]

ROLE_CHOICES = [
    ("viewer", "Viewer: look at everything except demographics"),
    ("editor", "Editor: also run and approve imports, operate webhooks, and see demographics"),
    ("owner", "Owner: also manage credentials, webhooks, settings and administrators"),
]
ACCESS_CHOICES = [("tenant", "This tenant"), ("operator", "All tenants, as an operator")]


class AdministratorForm(ConsoleForm):
    """Form for a new administrator. `access` is shown to operators only."""

    name = TextField(
        "Sign-in name",
        [InputRequired("Enter a name.")],
        description="3 to 64 letters (a to z), digits, '.', '_', '@', '+', '-'.",
    )
    role = RadioField("Role", choices=select_choices(ROLE_CHOICES), default="viewer")
    access = RadioField("Access to", choices=select_choices(ACCESS_CHOICES), default="tenant")

    @property
    def is_for_operator(self) -> bool:
        """True if the new administrator is an operator."""
        return bool(self.access.data == "operator")


class RoleForm(ConsoleForm):
    """Form for the role of an administrator."""

    role = RadioField("What the administrator may do", choices=select_choices(ROLE_CHOICES))


class ResetForm(ConsoleForm):
    """Form for a generated password; an option also turns off one-time codes."""

    disable_totp = BooleanField("Also turn off one-time codes, because the device and the recovery codes are lost")


def list_administrators() -> ResponseReturnValue:
    """Show the administrators of the tenant, and to operators the operators."""
    console = current()
    own = console.services.administrators.list(console.tenant)
    return render_template(
        "console/settings/administrators.html",
        administrators=own,
        operators=_operators() if console.administrator.is_operator else [],
    )


def show_new_administrator() -> ResponseReturnValue:
    """Show the form for a new administrator."""
    return _new_page(AdministratorForm(formdata=None))


def create_administrator() -> ResponseReturnValue:
    """Create an administrator with a generated password, and redirect to the page that shows it once."""
    form, console = AdministratorForm(), current()
    if not form.validate():
        return _new_page(form, 422)
    if form.is_for_operator and not console.administrator.is_operator:
        raise NotFound
    password = generate_password()
    tenant = None if form.is_for_operator else console.tenant
    try:
        administrator = console.services.administrators.create(
            form.name.data or "", form.role.data, tenant, password, by=console.administrator.id
        )
    except AdministratorError as error:
        form.name.errors = [format_sentence(error)]
        return _new_page(form, 422)
    flash_secret(_subject(administrator), password)
    return _to(administrator)


def show_administrator(administrator_id: str) -> ResponseReturnValue:
    """Show an administrator, and once a generated password."""
    administrator, console = find_administrator(administrator_id), current()
    return render_template(
        "console/settings/administrator.html",
        administrator=administrator,
        is_self=administrator.id == console.administrator.id,
        password=take_secret(_subject(administrator)),
        sessions=console.services.sessions.list_of(administrator.id),
        role_form=RoleForm(formdata=None, data={"role": administrator.role}),
        reset_form=ResetForm(formdata=None),
    )


def change_role(administrator_id: str) -> ResponseReturnValue:
    """Give an administrator another role, from the next request on."""
    administrator, form = _other_administrator(administrator_id), RoleForm()
    if not form.validate():
        raise Conflict("Choose a role. Nothing was changed.")
    console = current()
    try:
        console.services.administrators.set_role(administrator.id, form.role.data, by=console.administrator.id)
    except AdministratorError as error:
        raise _conflict(error) from error
    flash(f"The role is now {form.role.data}.", "success")
    return _to(administrator)


def reset_administrator(administrator_id: str) -> ResponseReturnValue:
    """Set a generated password, end all sessions, and redirect to the page that shows the password once."""
    administrator, form = _other_administrator(administrator_id), ResetForm()
    password, console = generate_password(), current()
    try:
        console.services.administrators.reset_password(
            administrator.id, password, disable_totp=bool(form.disable_totp.data), by=console.administrator.id
        )
    except AdministratorError as error:
        raise _conflict(error) from error
    flash_secret(_subject(administrator), password)
    flash("The administrator has a new password, and all sessions are ended.", "success")
    return _to(administrator)


def delete_administrator(administrator_id: str) -> ResponseReturnValue:
    """Delete an administrator, and end all sessions."""
    administrator, console = _other_administrator(administrator_id), current()
    try:
        console.services.administrators.delete(administrator.id, by=console.administrator.id)
    except AdministratorError as error:
        raise _conflict(error) from error
    flash("The administrator is deleted.", "success")
    return redirect(url_for("console.list_administrators"), 303)


def find_administrator(administrator_id: str) -> Administrator:
    """Return an administrator of the tenant. Operators can find operators too. Raises NotFound."""
    console = current()
    found = console.services.administrators.get(administrator_id)
    if found is None or not (
        found.tenant == console.tenant or (found.is_operator and console.administrator.is_operator)
    ):
        raise NotFound
    return found


def _other_administrator(administrator_id: str) -> Administrator:
    """Return an administrator other than the one who is signed in. Raises NotFound and Conflict."""
    found = find_administrator(administrator_id)
    if found.id == current().administrator.id:
        raise Conflict("You cannot do this to yourself. Ask another owner, or change your password in your account.")
    return found


def _operators() -> list[Administrator]:
    return [each for each in current().services.administrators.list() if each.is_operator]


def _conflict(error: Exception) -> Conflict:
    return Conflict(format_sentence(error))


def _new_page(form: AdministratorForm, status: int = 200) -> ResponseReturnValue:
    return make_response(render_template("console/settings/new_administrator.html", form=form), status)


def _to(administrator: Administrator) -> ResponseReturnValue:
    return redirect(url_for("console.show_administrator", administrator_id=administrator.id), 303)


def _subject(administrator: Administrator) -> str:
    return f"administrator:{administrator.id}"
