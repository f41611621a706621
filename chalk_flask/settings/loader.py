"""Load the values of the settings from all sources.

The setting `x_y` has this name as an argument and in the TOML file, and CHALK_X_Y in the environment. CHALK_X_Y_FILE
names a file that contains its value. Arguments take precedence over the environment, the environment over the file,
and the file over the defaults.
"""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from chalk_flask.names import similar_names, suggestion_or_list
from chalk_flask.settings.data_folder import is_former_data_folder
from chalk_flask.settings.setting_type import Setting, Value, absolute_path, without_passwords
from chalk_flask.settings.table import SETTINGS, Settings, Source

__all__ = ["SettingValue", "SettingsError", "describe_settings", "example_toml", "load_settings", "parse_setting"]

log = logging.getLogger(__name__)

_CONFIG = "config"
_VARIABLE_PREFIX = "CHALK_"
_VALUE_FILE_SUFFIX = "_FILE"
_BY_NAME: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in SETTINGS})


class SettingsError(Exception):
    """Unknown setting or invalid value; the message quotes the name, the value and its source."""


class SettingValue(NamedTuple):
    """Setting as `config show` prints it, with *** in place of secrets and passwords."""

    name: str
    value: Value
    source: Source


def load_settings(arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from arguments, `CHALK_*` variables, the TOML file and the defaults, in this precedence.

    Arguments that are None are ignored; texts are parsed. The argument `config` or CHALK_CONFIG names the file; without
    them no file is read. `environ` is `os.environ` by default. Unknown variables with the prefix `CHALK_` are logged.
    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    present = {name: value for name, value in (arguments or {}).items() if value is not None}
    config = present.pop(_CONFIG, None) or environ.get(_VARIABLE_PREFIX + _CONFIG.upper())
    values: dict[str, Value] = {}
    sources: dict[str, Source] = {setting.name: "default" for setting in SETTINGS}
    layers: tuple[tuple[Source, Iterable[_RawValue]], ...] = (
        ("file", _from_file(Path(str(config))) if config else ()),
        ("environment", _from_environ(environ)),
        ("argument", _from_arguments(present)),
    )
    for source, layer in layers:
        for raw in layer:
            values[raw.setting.name] = parse_setting(*raw)
            sources[raw.setting.name] = source
    # Every setting is parsed to the type of its own field, which the type checker cannot verify.
    settings = Settings(**values, sources=MappingProxyType(sources))  # type: ignore[arg-type]  # see above
    if sources["data"] == "default" and is_former_data_folder(settings.storage, Path(settings.data)):
        log.warning(
            "The folder data %s of an earlier version is used. Name it with --data (CHALK_DATA), because the default is"
            " now a folder beside the store.",
            settings.data,
        )
    return settings


def parse_setting(setting: Setting, raw: object, origin: str) -> Value:
    """Return the value of `raw`, which is a value or its text. Raises SettingsError, which names the origin."""
    try:
        return setting.parse(raw)
    except ValueError as rule:
        shown, reason = without_passwords(setting.to_text(raw)), without_passwords(str(rule))
        raise SettingsError(f"{setting.name} cannot be {shown!r} ({origin}): it must be {reason}") from None


def describe_settings(settings: Settings) -> tuple[SettingValue, ...]:
    """Return all settings with their values and sources, in the order of the table."""
    return tuple(_describe(settings, setting) for setting in SETTINGS)


def example_toml() -> str:
    """Return the text of `config/chalk.example.toml`: all settings, commented out, with help and default."""
    head = (
        "Settings of Chalk Flask with their defaults. Uncomment the ones that you change, and pass the file with"
        " --config or CHALK_CONFIG. Environment variables take precedence: CHALK_PORT over port. CHALK_PORT_FILE"
        " names a file that contains the value of port."
    )
    entries = (
        f"\n{_comment(_long_help(setting))}\n# {setting.name} = {_to_toml(setting.default)}" for setting in SETTINGS
    )
    return "\n".join([_comment(head), *entries, ""])


class _RawValue(NamedTuple):
    setting: Setting
    raw: object
    origin: str


def _from_arguments(arguments: Mapping[str, object]) -> Iterator[_RawValue]:
    for name, raw in arguments.items():
        yield _RawValue(_find(name, "argument", [*_BY_NAME, _CONFIG]), raw, f"argument {name}")


def _from_environ(environ: Mapping[str, str]) -> Iterator[_RawValue]:
    variables = {setting.variable: setting for setting in SETTINGS}
    in_files = {variable + _VALUE_FILE_SUFFIX: setting for variable, setting in variables.items()}
    names = [*variables, *in_files, _VARIABLE_PREFIX + _CONFIG.upper()]
    for name, text in environ.items():
        if name in variables:
            yield _RawValue(variables[name], text, f"environment variable {name}")
        elif name in in_files:
            yield _RawValue(in_files[name], _read_value_file(name, text, environ), f"the file in {name}")
        elif name.startswith(_VARIABLE_PREFIX) and name not in names:
            # Deployments set variables of their own with this prefix, so an unknown one must not stop a command.
            similar = similar_names(name, names)
            remedy = f"Did you mean {similar[0]}?" if similar else "`chalk-flask config show` lists the settings."
            log.warning("The unknown environment variable %s is ignored. %s", name, remedy)


def _from_file(path: Path) -> Iterator[_RawValue]:
    import tomllib  # takes time to import, and most commands read no file

    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {absolute_path(str(path))} is not valid TOML: {error}") from error
    except OSError as error:
        raise SettingsError(f"the settings file {absolute_path(str(path))} cannot be read: {error.strerror}") from error
    for name, raw in table.items():
        yield _RawValue(_find(name, f"settings file {path}", list(_BY_NAME)), raw, f"settings file {path}")


def _read_value_file(variable: str, path: str, environ: Mapping[str, str]) -> str:
    direct = variable.removesuffix(_VALUE_FILE_SUFFIX)
    if direct in environ:
        raise SettingsError(f"both {direct} and {variable} are set: remove one of them")
    try:
        return re.sub(r"\r?\n\Z", "", _read(Path(path)))
    except OSError as error:
        raise SettingsError(f"the file {path} in {variable} cannot be read: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise SettingsError(f"the file {path} is not UTF-8 text") from error


def _find(name: str, origin: str, names: list[str]) -> Setting:
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise SettingsError(f"unknown setting {name!r} ({origin}); {suggestion_or_list(name, names, 'settings')}")


def _describe(settings: Settings, setting: Setting) -> SettingValue:
    value: Value = getattr(settings, setting.name)
    source = settings.sources.get(setting.name, "default")
    return SettingValue(setting.name, setting.to_text(value) if isinstance(value, str) else value, source)


def _comment(text: str) -> str:
    return textwrap.fill(
        text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _long_help(setting: Setting) -> str:
    return f"{setting.help} Allowed: {setting.allowed}." if setting.is_restricted else setting.help


def _to_toml(value: Value) -> str:
    # The defaults need no escapes. TOML writes booleans in lower case.
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
