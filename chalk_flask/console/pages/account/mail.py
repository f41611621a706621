"""Choice of the notices about imports that the administrator gets by mail."""

from __future__ import annotations

from flask import flash, redirect, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.account.account_page import MailForm, account_page
from chalk_flask.notices import MailPreferences, MailPreferencesError

__all__ = ["change_mail"]


def change_mail() -> ResponseReturnValue:
    """Change the own e-mail address and the notices that are sent to it."""
    form, console = MailForm(), current()
    if form.validate():
        try:
            mail = MailPreferences.of(form.address.data or "", form.events.data or (), digest=form.digest.data)
        except MailPreferencesError as error:
            form.address.errors = [format_sentence(error)]
        else:
            console.services.administrators.set_mail(console.administrator.id, mail, by=console.administrator.id)
            flash("Your choice is saved." if mail.address else "You get no mail.", "success")
            return redirect(url_for("console.show_account"), 303)
    return account_page(mail_form=form, status=422)
