"""Two-factor sign-in: one-time codes of an app, and recovery codes."""

from __future__ import annotations

import segno
from flask import flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from wtforms import PasswordField
from wtforms.validators import InputRequired

from chalk_flask.admins import AdministratorError, new_totp_secret, provisioning_uri
from chalk_flask.console.context import current
from chalk_flask.console.pages.account.password import check_has_password, password_problem
from chalk_flask.console.session_cookie import flash_secret, take_secret
from chalk_flask.console.widgets.forms import ConsoleForm, TextField

__all__ = ["create_recovery_codes", "show_two_factor", "turn_off_two_factor", "turn_on_two_factor"]

NEW_SECRET, NEW_CODES = "two-factor", "recovery-codes"


class TurnOnForm(ConsoleForm):
    """Form with a first code, which proves that the authenticator app is set up."""

    code = TextField("Code of the app", [InputRequired("Enter the code that the app shows.")])
    current_password = PasswordField("Current password", [InputRequired("Enter your current password.")])


class ConfirmForm(ConsoleForm):
    """Form that asks for the password before a change."""

    current_password = PasswordField("Current password", [InputRequired("Enter your current password.")])


def show_two_factor() -> ResponseReturnValue:
    """Show how to turn on two-factor sign-in, or its state and, once, new recovery codes."""
    check_has_password()
    if current().administrator.uses_totp:
        return _on_page(ConfirmForm(formdata=None), recovery_codes=(take_secret(NEW_CODES) or "").split())
    return _off_page(TurnOnForm(formdata=None), new_totp_secret())


def turn_on_two_factor() -> ResponseReturnValue:
    """Turn on two-factor sign-in if the code is right, and show recovery codes once."""
    form, console = TurnOnForm(), current()
    check_has_password()
    if console.administrator.uses_totp:
        return _redirect()
    secret = take_secret(NEW_SECRET)
    if secret is None:
        flash("The QR code was out of date. Scan the new one.", "warning")
        return _redirect()
    if not (form.validate() and _is_confirmed(form)):
        return _off_page(form, secret, 422)
    try:
        codes = console.services.administrators.enable_totp(
            console.administrator.id, secret, form.code.data or "", except_hash=console.session.id_hash
        )
    except AdministratorError as error:
        form.code.errors = [str(error)]
        return _off_page(form, secret, 422)
    flash_secret(NEW_CODES, " ".join(codes))
    flash("Two-factor sign-in is on. Your other sessions have ended.", "success")
    return _redirect()


def create_recovery_codes() -> ResponseReturnValue:
    """Replace the recovery codes, and show the new ones once."""
    form, console = ConfirmForm(), current()
    if not console.administrator.uses_totp:
        return _redirect()
    if not (form.validate() and _is_confirmed(form)):
        return _on_page(form, status=422)
    flash_secret(NEW_CODES, " ".join(console.services.administrators.new_recovery_codes(console.administrator.id)))
    return _redirect()


def turn_off_two_factor() -> ResponseReturnValue:
    """Turn off two-factor sign-in."""
    form, console = ConfirmForm(), current()
    if not console.administrator.uses_totp:
        return _redirect()
    if not (form.validate() and _is_confirmed(form)):
        return _on_page(form, status=422)
    console.services.administrators.disable_totp(console.administrator.id, by=console.administrator.id)
    flash("Two-factor sign-in is off.", "success")
    return _redirect()


def _is_confirmed(form: TurnOnForm | ConfirmForm) -> bool:
    problem = password_problem(form.current_password.data or "")
    form.current_password.errors = [problem] if problem else []
    return not problem


def _redirect() -> ResponseReturnValue:
    return redirect(url_for("console.show_two_factor"), 303)


def _on_page(form: ConfirmForm, *, recovery_codes: list[str] | None = None, status: int = 200) -> ResponseReturnValue:
    text = render_template(
        "console/account/two_factor_on.html",
        form=form,
        recovery_codes=recovery_codes,
        remaining=len(current().administrator.recovery_codes),
    )
    return make_response(text, status)


def _off_page(form: TurnOnForm, secret: str, status: int = 200) -> ResponseReturnValue:
    flash_secret(NEW_SECRET, secret)  # the browser keeps it encrypted until the code proves that the app has it
    uri = provisioning_uri(secret, current().administrator.name)
    image = Markup(segno.make(uri, error="m").svg_inline(scale=4, dark="#000", light="#fff"))
    text = render_template("console/account/two_factor_off.html", form=form, qr_code=image, secret=secret)
    return make_response(text, status)
