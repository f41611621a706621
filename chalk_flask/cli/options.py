"""Options that several commands share. Those of settings come from the settings table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backends import Backend
from chalk_flask.cli.errors import CommandError
from chalk_flask.settings import SETTINGS, Setting, Settings, load_settings

__all__ = [
    "DEFAULT_TENANT",
    "IMPORTING",
    "SERVING",
    "as_json_option",
    "check_configured_tenant",
    "check_tenant",
    "open_configured_store",
    "parse_scope_options",
    "require_durable",
    "settings_from_options",
    "settings_options",
    "tenant_option",
]

if TYPE_CHECKING:
    from chalk_flask.storage import RosterStore

Function = TypeVar("Function", bound=Callable[..., Any])

STORAGE = "storage"
DEFAULT_TENANT = "default"

_FOR_IMPORT = ("map_enrollment_roles", "tombstone_days")

IMPORTING = tuple(each.name for each in SETTINGS if each.name in _FOR_IMPORT or each.name.startswith("import_"))
"""The settings that an import heeds."""
SERVING = tuple(each.name for each in SETTINGS if each.name not in (STORAGE, *IMPORTING))
"""The settings of a running service."""


def settings_options(*names: str) -> Callable[[Function], Function]:
    """The options --config, --storage and one for each of these settings; the command hands what it gets to
    `settings_of`. What may stand there is decided where all settings are read, whatever they come from."""
    chosen = [setting for setting in SETTINGS if setting.name in (STORAGE, *names)]

    def decorate(function: Function) -> Function:
        for setting in reversed(chosen):
            function = _option(setting)(function)
        return click.option("--config", metavar="FILE", help="The settings file.  [CHALK_CONFIG]")(function)

    return decorate


def settings_from_options(given: Mapping[str, Any]) -> Settings:
    """The settings from a command's options, else the environment, the file, the defaults. Raises SettingsError."""
    return load_settings(given)


@contextmanager
def open_configured_store(settings: Settings) -> Iterator[Backend]:
    """The store of the settings; made if it does not exist. Raises Refused for what is asked of an unknown tenant."""
    from backends import open_store
    from chalk_flask.storage import COLLECTIONS
    from chalk_flask.tenants.store import TenantError

    with open_store(settings.storage, COLLECTIONS) as store:
        try:
            yield store
        except TenantError as error:
            raise CommandError(str(error)) from error


def check_tenant(store: RosterStore, name: str) -> None:
    """Raises Refused when the store has no such tenant."""
    from chalk_flask.tenants.store import CONTROL, TenantError, require_tenant

    try:
        with store.read(CONTROL) as control:
            require_tenant(control, name)
    except TenantError as error:
        raise CommandError(str(error)) from error


def check_configured_tenant(settings: Settings, name: str) -> None:
    """The same for the store of the settings, which is not made for that."""
    from chalk_flask.storage import LazyStore

    if name != DEFAULT_TENANT:
        with LazyStore(settings.storage) as store:
            check_tenant(store, name)


def require_durable(given: Mapping[str, Any]) -> Settings:
    """The settings, for a command that leaves something behind. Raises SettingsError; Refused for memory."""
    from backends import backend_class

    settings = settings_from_options(given)
    if not backend_class(settings.storage).durable:
        raise CommandError(f"{settings.storage} keeps nothing once this command ends: name another --storage")
    return settings


def parse_scope_options(texts: Iterable[str]) -> frozenset[str]:
    """The scopes that --scope names. Raises click.BadParameter."""
    from chalk_flask.permissions.scopes import UnknownScopeError, parse_scopes

    try:
        return parse_scopes(texts)
    except UnknownScopeError as error:
        raise click.BadParameter(str(error), param_hint="--scope") from error


def as_json_option(function: Function) -> Function:
    """--json, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")(function)


def tenant_option(function: Function) -> Function:
    """--tenant, as the argument `tenant`."""
    return click.option("--tenant", default=DEFAULT_TENANT, metavar="NAME", help="Whose roster.  [default: default]")(
        function
    )


def _option(setting: Setting) -> Callable[[Function], Function]:
    default = "" if setting.default == "" else f"; default {_shown(setting.default)}"
    return click.option(
        f"--{setting.name.replace('_', '-')}",
        setting.name,
        metavar=_kind(setting),
        help=f"{setting.help}  [{setting.variable}{default}]",
    )


def _kind(setting: Setting) -> str:
    match setting.default:
        case bool():
            return "true|false"
        case int():
            return "NUMBER"
        case _:
            return "|".join(setting.choices) or ("URL" if setting.name.endswith(("url", STORAGE)) else "TEXT")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
