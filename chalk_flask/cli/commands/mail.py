"""`chalk-flask mail`: test the settings of the mail server."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    MAIL_SETTINGS,
    as_json_option,
    check_mail_address,
    settings_from_options,
    settings_options,
)

__all__ = ["mail_group"]


@click.group("mail", short_help="Test the settings of the mail server.")
def mail_group() -> None:
    """Test the settings of the mail server that sends notices about imports.

    Each administrator chooses the notices: see `chalk-flask admin mail`, or the page Your account of the console.
    """


@mail_group.command("test", epilog="Example: chalk-flask mail test --to it-office@example.org")
@click.option("--to", "recipient", required=True, metavar="ADDRESS", help="E-mail address that gets the message.")
@as_json_option
@settings_options(*MAIL_SETTINGS, with_storage=False)
def send_test(recipient: str, as_json: bool, **options: Any) -> None:
    """Send a test message now, and say what is wrong if that fails.

    The password is read from the settings file, or from the file in CHALK_SMTP_PASSWORD_FILE.
    """
    from chalk_flask.mail import MailConnection, MailError, MailServerSettings, RecipientError, build_test_message

    check_mail_address(recipient, "--to")
    server = MailServerSettings.of(settings_from_options(options))
    if server is None:
        raise CommandError("no mail is sent, because smtp_host is not set: set CHALK_SMTP_HOST and CHALK_MAIL_FROM")
    try:
        with MailConnection(server) as connection:
            connection.send(build_test_message(server, recipient), recipient)
    except RecipientError as error:
        raise CommandError(f"{error}: check --to and mail_from") from error
    except MailError as error:
        raise CommandError(str(error)) from error
    place = f"{server.host}:{server.port}"
    result = {"server": place, "security": server.security, "sent": True}
    echo_result(as_json, result, f"The mail server {place} has accepted the test message. Look for it in the mailbox.")
