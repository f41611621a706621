"""Page of the own account, and its forms."""

from __future__ import annotations

from flask import make_response, render_template
from flask.typing import ResponseReturnValue
from wtforms import BooleanField, PasswordField
from wtforms.validators import EqualTo, InputRequired, Length

from chalk_flask.admins import MIN_PASSWORD_LENGTH
from chalk_flask.console.context import current
from chalk_flask.console.widgets.forms import CheckboxesField, ConsoleForm, TextField, select_choices
from chalk_flask.notices import NOTICE_EVENTS
from chalk_flask.outbox.event import IMPORT_EVENTS
from chalk_flask.settings.mail_rules import MAX_ADDRESS_LENGTH

__all__ = ["MailForm", "PasswordForm", "account_page", "show_account"]


def _event_label(event: str) -> str:
    """Return the description of an event without the names of settings, which only operators know."""
    return IMPORT_EVENTS[event].replace(" the setting `overdue_hours`", " this service allows").rstrip(".")


class PasswordForm(ConsoleForm):
    """Form for a new password."""

    current_password = PasswordField("Current password", [InputRequired("Enter your current password.")])
    password = PasswordField(
        "New password",
        [Length(min=MIN_PASSWORD_LENGTH, message=f"Use at least {MIN_PASSWORD_LENGTH} characters.")],
        description=f"At least {MIN_PASSWORD_LENGTH} characters. A sentence is easy to remember.",
    )
    repeated = PasswordField("New password again", [EqualTo("password", "The new passwords differ.")])


class MailForm(ConsoleForm):
    """Form for the e-mail address, and for the notices that are sent to it."""

    address = TextField(
        "E-mail address",
        [Length(max=MAX_ADDRESS_LENGTH, message=f"Use at most {MAX_ADDRESS_LENGTH} characters.")],
        description="Leave it empty to get no mail.",
    )
    events = CheckboxesField(
        "Send a message at once for",
        choices=select_choices((event, _event_label(event)) for event in NOTICE_EVENTS),
    )
    digest = BooleanField("Send one message a day with all imports")


def show_account() -> ResponseReturnValue:
    """Show the own account: password, mail, two-factor sign-in and sessions."""
    return account_page()


def account_page(
    *, password_form: PasswordForm | None = None, mail_form: MailForm | None = None, status: int = 200
) -> ResponseReturnValue:
    """Return the page with the forms of a rejected input, or with new ones."""
    console = current()
    oidc = console.services.oidc_sign_in
    mail = console.administrator.mail
    text = render_template(
        "console/account/account.html",
        form=password_form or PasswordForm(formdata=None),
        mail_form=mail_form or MailForm(formdata=None, address=mail.address, events=mail.events, digest=mail.digest),
        sends_mail=bool(console.services.settings.smtp_host),
        digest_hour=console.services.settings.mail_digest_hour,
        administrator=console.administrator,
        provider=oidc.provider_name if oidc else "",
        sessions=console.services.sessions.list_of(console.administrator.id),
    )
    return make_response(text, status)
