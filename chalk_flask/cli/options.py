"""Options that several commands share. Options of settings are derived from the settings table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backends import Backend
from chalk_flask.cli.errors import CommandError
from chalk_flask.settings import SETTINGS, Setting, Settings, load_settings
from chalk_flask.settings.setting_type import without_passwords

__all__ = [
    "DEFAULT_TENANT",
    "IMPORT_SETTINGS",
    "MAIL_SETTINGS",
    "READING_SETTINGS",
    "SERVICE_SETTINGS",
    "as_json_option",
    "check_configured_tenant",
    "check_durable",
    "check_tenant",
    "open_configured_store",
    "require_store",
    "settings_from_options",
    "settings_options",
    "tenant_errors",
    "tenant_option",
]

if TYPE_CHECKING:
    from chalk_flask.storage import RosterStore

Function = TypeVar("Function", bound=Callable[..., Any])

STORAGE = "storage"
DATA = "data"
DEFAULT_TENANT = "default"

_IMPORT_ONLY = ("map_enrollment_roles", "tombstone_days")

IMPORT_SETTINGS = tuple(
    setting.name for setting in SETTINGS if setting.name in _IMPORT_ONLY or setting.name.startswith("import_")
)
"""Names of the settings that affect an import."""
MAIL_SETTINGS = tuple(setting.name for setting in SETTINGS if setting.name.startswith(("smtp_", "mail_")))
"""Names of the settings for mail to administrators."""
READING_SETTINGS = tuple(name for name in IMPORT_SETTINGS if name != "tombstone_days")
"""Names of the settings that affect how a package is read."""
SERVICE_SETTINGS = tuple(setting.name for setting in SETTINGS if setting.name not in (STORAGE, *IMPORT_SETTINGS))
"""Names of the settings that affect a running service."""


def settings_options(*names: str, with_storage: bool = True) -> Callable[[Function], Function]:
    """Return a decorator that adds --config, --storage and one option for each named setting.

    Secrets have no option, and a command that needs no store has no --storage. The command passes the values to
    `settings_from_options`. They are validated there, as values of every source are.
    """
    wanted = (*names, STORAGE) if with_storage else names
    chosen = [setting for setting in SETTINGS if setting.name in wanted and not setting.secret]

    def decorate(function: Function) -> Function:
        for setting in reversed(chosen):
            function = _option(setting)(function)
        return click.option("--config", metavar="FILE", help="Settings file.  [CHALK_CONFIG]")(function)

    return decorate


def settings_from_options(options: Mapping[str, Any]) -> Settings:
    """Return the settings from options, environment, file and defaults, in this order. Raises SettingsError."""
    return load_settings(options)


@contextmanager
def open_configured_store(settings: Settings, *, creates: bool = False) -> Iterator[Backend]:
    """Open the configured store; with `creates`, create it if it is missing. Else raises CommandError if it is.

    Audit events of the block name the user of this process. If the command has the option --data, raises SettingsError
    for the folder `data` of another store. Raises CommandError for a TenantError of the block.
    """
    from backends import open_store
    from chalk_flask.audit.actor import acting_as
    from chalk_flask.cli.package_import import current_user
    from chalk_flask.data_folder_binding import bind_if_created, check_missing_store
    from chalk_flask.storage import COLLECTIONS

    uses_data = DATA in click.get_current_context().params
    if not creates:
        require_store(settings)
    elif uses_data:
        check_missing_store(settings)
    with (
        open_store(settings.storage, COLLECTIONS) as store,
        tenant_errors(),
        acting_as(current_user()),
        bind_if_created(store, settings) if uses_data else nullcontext(),
    ):
        yield store


def require_store(settings: Settings) -> None:
    """Raise CommandError with the absolute path if the configured store does not exist."""
    from backends import store_exists
    from chalk_flask.settings.storage_location import slashes_hint, storage_location

    check_durable(settings.storage)
    if not store_exists(settings.storage):
        raise CommandError(
            f"there is no store at {storage_location(settings.storage)}: give the right one with --storage"
            " (CHALK_STORAGE), or create it with `chalk-flask import PATH` or `chalk-flask demo`"
            f"{slashes_hint(settings.storage)}"
        )


@contextmanager
def tenant_errors() -> Iterator[None]:
    """Raise a TenantError of the block as CommandError."""
    from chalk_flask.tenants.store import TenantError

    try:
        yield
    except TenantError as error:
        raise CommandError(str(error)) from error


def check_tenant(store: RosterStore, name: str) -> None:
    """Raise CommandError if the store has no such tenant."""
    from chalk_flask.tenants.store import CONTROL, require_tenant

    with tenant_errors(), store.read(CONTROL) as control:
        require_tenant(control, name)


def check_configured_tenant(settings: Settings, name: str) -> None:
    """Raise CommandError if the configured store or its tenant does not exist."""
    require_store(settings)
    if name != DEFAULT_TENANT:
        with open_configured_store(settings) as store:
            check_tenant(store, name)


def check_durable(url: str, remedy: str = "give another --storage") -> None:
    """Raise CommandError for a store that loses its data when the command ends. `remedy` ends the message."""
    from backends import backend_class

    if not backend_class(url).durable:
        raise CommandError(f"{without_passwords(url)} loses its data when this command ends: {remedy}")


def as_json_option(function: Function) -> Function:
    """Add --json as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")(function)


def tenant_option(function: Function) -> Function:
    """Add --tenant as the argument `tenant`."""
    return click.option(
        "--tenant", default=DEFAULT_TENANT, metavar="NAME", help="Tenant (district).  [default: default]"
    )(function)


def _option(setting: Setting) -> Callable[[Function], Function]:
    default = "" if setting.default == "" else f"; default {_to_text(setting.default)}"
    return click.option(
        f"--{setting.name.replace('_', '-')}",
        setting.name,
        metavar=_metavar(setting),
        help=f"{setting.help}  [{setting.variable}{default}]",
    )


def _metavar(setting: Setting) -> str:
    match setting.default:
        case bool():
            return "true|false"
        case int():
            return "NUMBER"
        case _:
            return "|".join(setting.choices) or _text_metavar(setting.name)


def _text_metavar(name: str) -> str:
    if name == STORAGE:
        return "PATH|URL"
    return "URL" if name.endswith("url") else "TEXT"


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
