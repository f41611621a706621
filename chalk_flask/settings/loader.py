"""Table of the settings, as fields of `Settings`, and loading of their values from all sources.

The setting `x_y` has this name as an argument and in the TOML file, and CHALK_X_Y in the environment. CHALK_X_Y_FILE
names a file that contains its value. Arguments take precedence over the environment, the environment over the file,
and the file over the defaults.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from chalk_flask.settings.host_allowlist import validate_allowlist
from chalk_flask.settings.setting import (
    Setting,
    Value,
    normalize_address,
    validate_address,
    validate_not_empty,
    validate_origin,
    validate_rate,
)

__all__ = [
    "SETTINGS",
    "Setting",
    "SettingValue",
    "Settings",
    "SettingsError",
    "describe_settings",
    "example_toml",
    "load_settings",
]

log = logging.getLogger(__name__)

Source: TypeAlias = Literal["argument", "environment", "file", "default"]

_CONFIG = "config"
_VARIABLE_PREFIX = "CHALK_"
_VALUE_FILE_SUFFIX = "_FILE"


class SettingsError(Exception):
    """Unknown setting or invalid value; the message quotes the name, the value and its source."""


def _setting(default: Any, help: str, *, secret: bool = False, **rules: Any) -> Any:  # noqa: A002 - as in click
    return field(default=default, repr=not secret, metadata={"help": help, "secret": secret, **rules})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Values of all settings, immutable; `load_settings` creates them when the service starts."""

    # The name decides which commands have the option: in `cli/options.py`, settings whose name begins with `import_` or
    # is in `_IMPORT_ONLY` are IMPORT_SETTINGS, and all others are SERVICE_SETTINGS.

    storage: str = _setting(
        "sqlite:///chalk.db",
        "URL of the store: memory:, json:///folder or sqlite:///file. Three slashes begin a path relative to the"
        " working directory, four an absolute path.",
        secret=True,
        check=validate_not_empty,
    )
    data: str = _setting(
        "chalk-data",
        "Folder for files outside of the store: access log, key files, held packages. It is created when needed,"
        " accessible to its owner only.",
        check=validate_not_empty,
    )
    host: str = _setting(
        "127.0.0.1", "Host name or address to listen on; 0.0.0.0 is every IPv4 interface.", check=validate_not_empty
    )
    port: int = _setting(8080, "TCP port to listen on; 0 chooses a free one.", maximum=65535)
    threads: int = _setting(16, "Maximum number of requests that are processed at once.", minimum=1, maximum=1000)
    public_url: str = _setting(
        "",
        "Public URL of this service without a trailing slash, for example https://roster.example.org; hrefs and links"
        " begin with it. Empty: derived from each request; client assertions and OAuth 1.0a are then rejected.",
        check=validate_origin,
    )
    max_limit: int = _setting(0, "Maximum `limit` of a request; a larger one is rejected with 400. 0: no maximum.")
    lenient_parent: bool = _setting(False, "Return an empty 200 instead of 404 for paths below an unknown parent.")
    token_seconds: int = _setting(
        3600,
        "Lifetime of access tokens of OAuth clients, in seconds; revoking the client ends them earlier.",
        minimum=60,
        maximum=86400,
    )
    map_enrollment_roles: bool = _setting(
        False,
        "Import an enrollment whose role is not in the standard's list as a teacher with primary=false, instead of"
        " rejecting it (interpretation A-10).",
    )
    tombstone_days: int = _setting(
        90, "Days for which a deleted record stays visible as tobedeleted; the standard requires 90.", minimum=90
    )
    import_role_map: str = _setting(
        "",
        "Comma-separated roles that the standard does not list, and the role that replaces each in users and"
        " enrollments, for example aide=teacher, pupil=student.",
    )
    import_max_entries: int = _setting(64, "Maximum number of files in a package.", minimum=1)
    import_max_mb: int = _setting(512, "Maximum size of an unpacked package, in MiB.", minimum=1)
    import_max_ratio: int = _setting(200, "Maximum compression ratio of a file in a package.", minimum=1)
    import_max_field_kb: int = _setting(128, "Maximum size of a cell of a CSV file, in KiB.", minimum=1)
    stream_seconds: int = _setting(
        600,
        "Maximum duration of a streamed response, in seconds; it is cut off after that, so that a stalled client"
        " occupies nothing.",
        minimum=1,
    )
    query_milliseconds: int = _setting(
        2000,
        "Maximum duration of a database query of a read, in milliseconds; a longer one is answered with 503. A stream"
        " may take longer in total.",
        minimum=1,
    )
    trusted_proxy: str = _setting(
        "",
        "Address of the reverse proxy whose X-Forwarded-For, -Proto, -Host and -Port headers are trusted; * trusts any"
        " client. Empty: these headers are ignored.",
        check=validate_address,
        normalize=normalize_address,
    )
    rate_limit_token: str = _setting(
        "",
        "Maximum request rate of a token, a client or an issuer, for example 600/minute; requests above it are rejected"
        " with 429. Each process counts separately. Empty: no limit.",
        check=validate_rate,
    )
    rate_limit_address: str = _setting(
        "",
        "Maximum request rate of an address (IPv6: of its /64 network), for example 600/minute. Empty: no limit.",
        check=validate_rate,
    )
    audit_days: int = _setting(
        90,
        "Days for which the access log in the folder `data` is kept. 0: no access log.",
        maximum=36500,
    )
    webhook_allowed_hosts: str = _setting(
        "",
        "Comma-separated hosts, host:port, addresses or networks that webhooks may use although they are private or"
        " plain http, for example hooks.lan:8080, 10.1.0.0/16. Empty: public https addresses only.",
        check=validate_allowlist,
    )
    connection_limit: int = _setting(
        1000,
        "Maximum number of open connections. If there are more, the ones that are idle or slow are closed.",
        minimum=1,
    )
    connection_limit_address: int = _setting(
        256,
        "Maximum number of open connections of an address (IPv6: of its /64 network). It does not apply to"
        " connections of `trusted_proxy`.",
        minimum=1,
    )
    connection_limit_credential: int = _setting(
        64, "Maximum number of open connections whose last request had the same token or client.", minimum=1
    )
    request_limit_address: int = _setting(
        12, "Maximum number of threads that work on requests of an address at once; further requests wait.", minimum=1
    )
    request_limit_credential: int = _setting(
        4,
        "Maximum number of threads that work on requests with the same token or client at once; further requests wait.",
        minimum=1,
    )
    stream_limit_address: int = _setting(
        32, "Maximum number of streamed responses to an address at once; more are rejected with 429.", minimum=1
    )
    stream_limit_credential: int = _setting(
        8,
        "Maximum number of streamed responses to a token, a client or an issuer at once; more are rejected with 429.",
        minimum=1,
    )
    long_poll_limit_address: int = _setting(
        32, "Maximum number of waiting requests of the change feed from an address; more are rejected with 429."
    )
    long_poll_limit_credential: int = _setting(
        8,
        "Maximum number of waiting requests of the change feed from a token, a client or an issuer; more are rejected"
        " with 429.",
    )
    channel_timeout: int = _setting(
        60, "Seconds after which a connection that waits for its next request is closed.", minimum=1
    )
    head_timeout: int = _setting(
        10,
        "Seconds within which the head of a request must arrive, and the first request of a connection begin.",
        minimum=1,
    )
    body_timeout: int = _setting(60, "Seconds within which the body of a request must arrive.", minimum=1)
    body_min_rate: int = _setting(
        1024, "Minimum rate at which the body of a request must arrive after `head_timeout`, in bytes per second."
    )
    send_timeout: int = _setting(
        30, "Seconds after which a connection is closed whose client accepts nothing of a response.", minimum=1
    )
    log_level: str = _setting("info", "Minimum level of log messages.", choices=("debug", "info", "warning", "error"))
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    @property
    def query_seconds(self) -> float:
        """The setting `query_milliseconds` in seconds, as `Backend.read` takes it."""
        return self.query_milliseconds / 1000


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(name=f.name, default=f.default, **f.metadata) for f in fields(Settings) if f.default is not MISSING
)
_BY_NAME: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in SETTINGS})


class SettingValue(NamedTuple):
    """Setting as `config show` prints it, with *** in place of passwords."""

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
            values[raw.setting.name] = _parse(raw)
            sources[raw.setting.name] = source
    # Every setting is parsed to the type of its own field, which the type checker cannot verify.
    return Settings(**values, sources=MappingProxyType(sources))  # type: ignore[arg-type]  # see above


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
            [closest] = difflib.get_close_matches(name, names, 1, cutoff=0)
            log.warning("The unknown environment variable %s is ignored. The closest setting is %s.", name, closest)


def _from_file(path: Path) -> Iterator[_RawValue]:
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
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
    raise SettingsError(f"unknown setting {name!r} ({origin}){_suggest(name, names)}")


def _suggest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(names)}"


def _parse(value: _RawValue) -> Value:
    setting = value.setting
    try:
        return setting.parse(value.raw)
    except ValueError as rule:
        shown = setting.to_text(value.raw)
        raise SettingsError(f"{setting.name} cannot be {shown!r} ({value.origin}): it must be {rule}") from None


def _describe(settings: Settings, setting: Setting) -> SettingValue:
    value: Value = getattr(settings, setting.name)
    source = settings.sources.get(setting.name, "default")
    return SettingValue(setting.name, setting.to_text(value) if setting.secret else value, source)


def _comment(text: str) -> str:
    return textwrap.fill(
        text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _long_help(setting: Setting) -> str:
    is_restricted = setting.choices or setting.maximum is not None or setting.minimum > 1
    return f"{setting.help} Allowed: {setting.allowed}." if is_restricted else setting.help


def _to_toml(value: Value) -> str:
    # The defaults need no escapes. TOML writes booleans in lower case.
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
