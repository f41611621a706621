"""Options that several commands share. Options of settings are derived from the settings table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backends import Backend
from chalk_flask.cli.errors import CommandError
from chalk_flask.settings import SETTINGS, Setting, Settings, SettingSection, load_settings, parse_setting
from chalk_flask.settings.setting_type import Value, without_passwords

__all__ = [
    "CREATION_HINT",
    "DEFAULT_TENANT",
    "IMPORT_SETTINGS",
    "MAIL_SETTINGS",
    "READING_SETTINGS",
    "SERVICE_SETTINGS",
    "SettingsCommand",
    "as_json_option",
    "check_configured_tenant",
    "check_durable",
    "check_mail_address",
    "check_tenant",
    "open_configured_store",
    "option_name",
    "require_store",
    "settings_from_options",
    "settings_options",
    "tenant_errors",
    "tenant_option",
]

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from chalk_flask.storage import RosterStore

Function = TypeVar("Function", bound=Callable[..., Any])

STORAGE = "storage"
DATA = "data"
DEFAULT_TENANT = "default"
CREATION_HINT = "create it with `chalk-flask import PATH` or `chalk-flask demo`"
"""Part of a message that says how to create a missing store."""

_COMPLETE_HELP = "chalk_flask.complete_help"
"""Key of `Context.meta`; the value is True if --help-all is given."""

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
    `settings_from_options`. The type of an option rejects invalid values.
    """
    wanted = (*names, STORAGE) if with_storage else names
    chosen = [setting for setting in SETTINGS if setting.name in wanted and not setting.secret]

    def decorate(function: Function) -> Function:
        for setting in reversed(chosen):
            function = click.option(option_name(setting), setting.name, cls=_SettingOption, setting=setting)(function)
        return click.option("--config", metavar="FILE", help="Settings file.  [CHALK_CONFIG]")(function)

    return decorate


def option_name(setting: Setting) -> str:
    """Return the name of the option of a setting."""
    return f"--{setting.name.replace('_', '-')}"


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


def require_store(settings: Settings, creation_hint: str = CREATION_HINT) -> None:
    """Raise CommandError with the absolute path if the configured store does not exist.

    `creation_hint` is the part of the message that says how to create it.
    """
    from backends import store_exists
    from chalk_flask.settings.storage_location import slashes_hint, storage_location

    check_durable(settings.storage)
    if not store_exists(settings.storage):
        raise CommandError(
            f"there is no store at {storage_location(settings.storage)}: give the right one with --storage"
            f" (CHALK_STORAGE), or {creation_hint}"
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


def check_configured_tenant(settings: Settings, name: str, creation_hint: str = CREATION_HINT) -> None:
    """Raise CommandError if the configured store or its tenant does not exist. See `require_store` for the hint."""
    require_store(settings, creation_hint)
    if name != DEFAULT_TENANT:
        with open_configured_store(settings) as store:
            check_tenant(store, name)


def check_durable(url: str, remedy: str = "give another --storage") -> None:
    """Raise UsageError for a store that loses its data when the command ends. `remedy` ends the message."""
    from backends import backend_class

    if not backend_class(url).durable:
        raise click.UsageError(f"{without_passwords(url)} loses its data when this command ends: {remedy}")


def check_mail_address(address: str, option: str) -> None:
    """Raise BadParameter, which names the option, for an invalid e-mail address."""
    from chalk_flask.settings.mail_rules import is_mail_address

    if not is_mail_address(address):
        raise click.BadParameter("enter an e-mail address such as name@example.org, in ASCII", param_hint=option)


def as_json_option(function: Function) -> Function:
    """Add --json as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")(function)


def tenant_option(function: Function) -> Function:
    """Add --tenant as the argument `tenant`."""
    return click.option(
        "--tenant", default=DEFAULT_TENANT, metavar="NAME", help="Tenant (district).  [default: default]"
    )(function)


class SettingsCommand(click.Command):
    """Command with many settings. Its help explains those of the store and the server, and names the others.

    `--help-all` explains all of them, by section.
    """

    _EXPLAINED = (SettingSection.STORE, SettingSection.SERVER)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        option = click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_complete_help,
            help="Show this message with all settings, and exit.",
        )
        self.params.append(option)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command, then the settings by section."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        settings = [option for option in options if isinstance(option, _SettingOption)]
        others = [option for option in options if not isinstance(option, _SettingOption)]
        _write_options(ctx, formatter, "Options", others)
        sections = {section: [o for o in settings if o.setting.info.section == section] for section in SettingSection}
        is_complete = ctx.meta.get(_COMPLETE_HELP, False)
        for section, found in sections.items():
            if is_complete or section in self._EXPLAINED:
                _write_options(ctx, formatter, f"Settings ({section})", found)
        if not is_complete:
            _write_names(formatter, {name: found for name, found in sections.items() if name not in self._EXPLAINED})


class _SettingOption(click.Option):
    """Option of a setting. Its help is the first sentence of the setting, or all of it after --help-all."""

    def __init__(self, names: Sequence[str], setting: Setting) -> None:
        self.setting = setting
        super().__init__(names, type=_SettingType(setting), metavar=_metavar(setting))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return name and help, which ends with the environment variable and the default."""
        setting = self.setting
        default = "" if setting.default == "" else f"; default {_to_text(setting.default)}"
        text = setting.help if ctx.meta.get(_COMPLETE_HELP) else setting.summary
        return f"{self.opts[0]} {self.metavar}", f"{text}  [{setting.variable}{default}]"


class _SettingType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Type of the option of a setting: its parser, and its words for the completion of a shell."""

    name = "setting"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Value:
        """Return the value of a text. Raises SettingsError, with the message that values of other sources get."""
        return parse_setting(self._setting, value, f"option {option_name(self._setting)}")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the valid words that begin like the text, or let the shell complete a path."""
        from click.shell_completion import CompletionItem

        if self._setting.info.section == SettingSection.STORE:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(word) for word in _words(self._setting) if word.startswith(incomplete)]


def _show_complete_help(ctx: click.Context, option: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        ctx.meta[_COMPLETE_HELP] = True
        click.echo(ctx.get_help())
        ctx.exit()


def _write_options(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, options: Sequence[click.Option]
) -> None:
    records = [record for option in options if (record := option.get_help_record(ctx))]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)


def _write_names(formatter: click.HelpFormatter, sections: Mapping[SettingSection, Sequence[click.Option]]) -> None:
    """Write the names of options by section, without a line break within a name."""
    indent = max(map(len, SettingSection)) + 4
    rows = []
    for section, options in sections.items():
        names = ", ".join(option.opts[0] for option in options)
        lines = textwrap.wrap(names, formatter.width - indent, break_on_hyphens=False, break_long_words=False)
        if lines:
            rows.append((f"{section:{indent - 4}}", "\n".join(["\b", *lines])))  # \b keeps the lines as they are
    if rows:
        with formatter.section("Settings that --help-all explains"):
            formatter.write_dl(rows)


def _metavar(setting: Setting) -> str:
    if setting.name == STORAGE:
        return "PATH|URL"
    if words := _words(setting):
        return "|".join(words)
    if isinstance(setting.default, int):
        return "NUMBER"
    return "URL" if setting.name.endswith("url") else "TEXT"


def _words(setting: Setting) -> tuple[str, ...]:
    return ("true", "false") if isinstance(setting.default, bool) else setting.choices


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
