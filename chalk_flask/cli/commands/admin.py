"""`chalk-flask admin`: create, list, reset and delete administrators of the console, and choose their mail."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.credentials import (
    open_credentials,
    settings_for_new,
    shown_once_warning,
    summary_text,
)
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import (
    DEFAULT_TENANT,
    as_json_option,
    check_mail_address,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.package_import import current_user
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.admins import Administrator, AdministratorStore, Role
    from chalk_flask.notices import MailPreferences
    from chalk_flask.settings import Settings

__all__ = ["admin_group"]

# Equal to `admins.roles.ROLES`, whose import would slow down `--help`.
ROLES = ("viewer", "editor", "owner")

_UNKNOWN_NAME = "there is no administrator with this name: list them with `chalk-flask admin list`"

_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of stdin, instead of generating one."
)


@click.group("admin", short_help="Create, list, reset and delete administrators, and choose mail.")
def admin_group() -> None:
    """Create, list, reset and delete the administrators who can sign in to the admin console.

    An administrator has access to one tenant. An operator has access to all tenants.
    """


@admin_group.command("create", epilog="Example: chalk-flask admin create it-office --tenant default --role editor")
@click.argument("name", metavar="NAME")
@click.option("--tenant", metavar="NAME", help="Tenant (district).  [default: default]")
@click.option("--operator", is_flag=True, help="Give access to all tenants instead of one.")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="owner",
    help="viewer: look at everything except demographics. editor: also run and approve imports, operate webhooks, and"
    " see demographics. owner: also manage credentials, webhooks, settings and administrators.  [default: owner]",
)
@_password_option
@as_json_option
@settings_options()
def create(
    name: str, tenant: str | None, operator: bool, role: Role, password_stdin: bool, as_json: bool, **options: Any
) -> None:
    """Create an administrator and show a generated password once. The store keeps only its hash.

    NAME is the sign-in name. It has 3 to 64 characters: letters, digits, '.', '_', '@', '+', '-'. Case is ignored.
    """
    if operator and tenant is not None:
        raise click.UsageError("an operator has access to all tenants: omit --tenant or --operator")
    admin_tenant = None if operator else tenant or DEFAULT_TENANT
    settings = settings_for_new(options, admin_tenant or DEFAULT_TENANT)
    password = _read_or_generate_password(password_stdin)
    with _administrator_store(settings) as administrators:
        administrator = administrators.create(name, role, admin_tenant, password, by=current_user())
    _echo(as_json, administrator, None if password_stdin else password)


@admin_group.command("list", epilog="Example: chalk-flask admin list --json")
@as_json_option
@settings_options()
def list_administrators(as_json: bool, **options: Any) -> None:
    """List the administrators by name.

    CODES says if signing in requires a one-time code. It is `external` for an administrator who signs in with an
    identity provider.
    """
    with _administrator_store(settings_from_options(options)) as administrators:
        records = list(administrators.list())
    echo_result(as_json, {"administrators": [record.to_dict() for record in records]}, _table(records))


@admin_group.command(
    "reset",
    short_help="Set a new password, and end all sessions.",
    epilog="Example: chalk-flask admin reset it-office --disable-totp",
)
@click.argument("name", metavar="NAME")
@click.option(
    "--disable-totp", is_flag=True, help="Also turn off one-time codes, for an administrator who lost the device."
)
@_password_option
@as_json_option
@settings_options()
def reset(name: str, disable_totp: bool, password_stdin: bool, as_json: bool, **options: Any) -> None:
    """Set a new password, show it once, and end all sessions of the administrator."""
    settings = settings_from_options(options)
    password = _read_or_generate_password(password_stdin)
    with _administrator_store(settings) as administrators:
        administrator = administrators.reset_password(
            _require(administrators, name).id, password, disable_totp=disable_totp, by=current_user()
        )
    _echo(as_json, administrator, None if password_stdin else password)


@admin_group.command("delete", epilog="Example: chalk-flask admin delete it-office")
@click.argument("name", metavar="NAME")
@as_json_option
@settings_options()
def delete(name: str, as_json: bool, **options: Any) -> None:
    """Delete an administrator and end the administrator's sessions.

    The last operator with the role owner and a password cannot be deleted. An administrator who signs in with an
    identity provider is created again at the next sign-in, if the setting oidc_access still gives access.
    """
    with _administrator_store(settings_from_options(options)) as administrators:
        administrator = administrators.delete(_require(administrators, name).id, by=current_user())
    echo_result(as_json, administrator.to_dict(), f"Deleted the administrator {administrator.name}.")


@admin_group.command(
    "mail", epilog="Example: chalk-flask admin mail it-office --address it-office@example.org --digest"
)
@click.argument("name", metavar="NAME")
@click.option("--address", metavar="ADDRESS", help="E-mail address of the administrator.")
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="EVENT",
    help="Send a notice at once for import.committed, import.held, import.rejected or import.overdue; none for no"
    " event. Can be repeated.  [default: held, rejected and overdue]",
)
@click.option("--digest/--no-digest", default=None, help="Send the imports of each day in one message, or stop that.")
@click.option("--off", is_flag=True, help="Delete the address, so that no mail is sent.")
@as_json_option
@settings_options()
def mail(
    name: str,
    address: str | None,
    events: tuple[str, ...],
    digest: bool | None,
    off: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose which notices about imports an administrator gets by mail. Without options, show the choice.

    An administrator of a tenant gets the notices of the tenant, an operator those of all tenants. Mail requires the
    setting smtp_host, see `chalk-flask mail test`.
    """
    if off and (address is not None or events or digest is not None):
        raise click.UsageError("--off deletes the address: omit the other options, or --off")
    if address:
        check_mail_address(address.strip(), "--address")
    with _administrator_store(settings_from_options(options)) as administrators:
        administrator = _require(administrators, name)
        preferences = _changed_mail(administrator.mail, address, events, digest, off)
        if preferences != administrator.mail:
            administrator = administrators.set_mail(administrator.id, preferences, by=current_user())
    echo_result(as_json, administrator.to_dict(), _mail_text(administrator))


def _changed_mail(
    mail: MailPreferences, address: str | None, events: tuple[str, ...], digest: bool | None, off: bool
) -> MailPreferences:
    """Return the preferences after the options of a command. Raises BadParameter for an invalid value."""
    from chalk_flask.notices import MailPreferences, MailPreferencesError

    new_address = "" if off else mail.address if address is None else address
    new_events = mail.events if not events else () if events == ("none",) else events
    try:
        return MailPreferences.of(new_address, new_events, digest=mail.digest if digest is None else digest)
    except MailPreferencesError as error:
        raise click.BadParameter(str(error), param_hint="--event") from error


def _mail_text(administrator: Administrator) -> str:
    if not administrator.mail.address:
        return complete_hints(
            f"No mail is sent to {administrator.name}. Set an address: chalk-flask admin mail"
            f" {administrator.name} --address ADDRESS"
        )
    rows = [
        ("name", administrator.name),
        ("address", administrator.mail.address),
        ("events", ", ".join(administrator.mail.events) or "none"),
        ("digest", "daily" if administrator.mail.digest else "no"),
    ]
    return "\n".join(summary_text(rows, 9))


def _administrator_store(settings: Settings) -> AbstractContextManager[AdministratorStore]:
    from chalk_flask.admins import AdministratorError, AdministratorStore
    from chalk_flask.auth.secrets import SecretCipher

    def create_store(store: Backend) -> AdministratorStore:
        return AdministratorStore(store, SecretCipher(settings.data))

    return open_credentials(settings, create_store, AdministratorError)


def _require(administrators: AdministratorStore, name: str) -> Administrator:
    administrator = administrators.find(name)
    if administrator is None:
        raise CommandError(_UNKNOWN_NAME)
    return administrator


def _read_or_generate_password(from_stdin: bool) -> str:
    from chalk_flask.admins import generate_password

    if not from_stdin:
        return generate_password()
    line = sys.stdin.buffer.readline()
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("the password on stdin is not UTF-8") from None


def _echo(as_json: bool, administrator: Administrator, password: str | None) -> None:
    rows = [
        ("name", administrator.name),
        ("tenant", administrator.tenant or "all (operator)"),
        ("role", administrator.role),
        ("codes", "required" if administrator.uses_totp else "not required"),
    ]
    headline = [password, "", shown_once_warning("password")] if password else ["The password is set."]
    text = "\n".join([*headline, *summary_text(rows, 8)])
    echo_result(as_json, {"password": password, **administrator.to_dict()}, text)


def _table(records: Iterable[Administrator]) -> str:
    rows = [_row(record) for record in records]
    if not rows:
        return complete_hints("There are no administrators. Create one: chalk-flask admin create NAME")
    return format_table(("NAME", "TENANT", "ROLE", "CODES", "LAST SIGN-IN"), rows)


def _row(record: Administrator) -> tuple[str, ...]:
    return (
        record.name,
        record.tenant or "(all)",
        record.role,
        "external" if record.is_external else "yes" if record.uses_totp else "no",
        record.to_dict()["lastSignIn"] or "never",
    )
