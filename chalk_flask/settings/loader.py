"""Every setting, once: a field of `Settings`. Loading, `config show`, options and the example file come from it.

A setting `x_y` is `x_y` as an argument and in the TOML file, `CHALK_X_Y` in the environment, and `CHALK_X_Y_FILE` names
a file that holds its value. Arguments win over the environment, that over the file, that over the defaults.
"""

from __future__ import annotations

import difflib
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
from chalk_flask.settings.setting import Setting, Value, address_or_any, not_empty, valid_origin, valid_rate

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

Source: TypeAlias = Literal["argument", "environment", "file", "default"]

CONFIG = "config"
PREFIX = "CHALK_"
FROM_FILE = "_FILE"


class SettingsError(Exception):
    """A setting is unknown or its value will not do; the message names the key, the value, where it came from."""


def _row(default: Any, help: str, *, secret: bool = False, **limits: Any) -> Any:  # noqa: A002 - the word for it
    return field(default=default, repr=not secret, metadata={"help": help, "secret": secret, **limits})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator can set. Read once, when the service starts; made by `load`."""

    storage: str = _row(
        "sqlite:///chalk.db",
        "Where records are kept: memory:, json:///folder or sqlite:///file. Three slashes are relative to the working"
        " directory, four absolute.",
        secret=True,
        check=not_empty,
    )
    data: str = _row(
        "chalk-data",
        "The folder for what is kept beside the store: the record of reads, the key of stored secrets. It is made when"
        " it is needed, for its owner alone.",
        check=not_empty,
    )
    host: str = _row("127.0.0.1", "The name or address to listen on; 0.0.0.0 is every IPv4 interface.", check=not_empty)
    port: int = _row(8080, "The TCP port to listen on; 0 takes a free one.", maximum=65535)
    threads: int = _row(16, "How many requests are worked on at once.", minimum=1, maximum=1000)
    public_url: str = _row(
        "",
        "The address by which clients know this service, without a trailing slash, as in https://roster.example.org;"
        " hrefs and links begin with it. Empty: taken from each request.",
        check=valid_origin,
    )
    max_limit: int = _row(0, "The largest `limit` a request may ask for; above it the answer is 400. 0: no maximum.")
    lenient_parent: bool = _row(
        False, "Answer a nested read under an unknown parent with an empty 200 instead of a 404."
    )
    token_seconds: int = _row(
        3600,
        "The seconds for which an access token of an OAuth client is valid; it ends sooner with its client.",
        minimum=60,
        maximum=86400,
    )
    map_enrollment_roles: bool = _row(
        False,
        "On import, keep an enrollment whose role is outside the standard's list as a teacher with primary=false"
        " instead of refusing it (reading A-10).",
    )
    tombstone_days: int = _row(
        90, "How many days a deleted record stays visible as tobedeleted; the standard asks for 90.", minimum=90
    )
    import_max_entries: int = _row(64, "The most files a package may hold.", minimum=1)
    import_max_mb: int = _row(512, "The most MiB a package may unpack to.", minimum=1)
    import_max_ratio: int = _row(200, "The most times larger than its ZIP form an entry may unpack to.", minimum=1)
    import_max_field_kb: int = _row(128, "The most KiB one cell of a CSV file may hold.", minimum=1)
    stream_seconds: int = _row(
        600, "The seconds after which a streamed answer is ended, so that a stalled reader pins nothing.", minimum=1
    )
    trusted_proxy: str = _row(
        "",
        "The address of the reverse proxy whose X-Forwarded-For, -Proto, -Host and -Port are believed; * believes"
        " anyone. Empty: nobody, and the headers are dropped.",
        check=address_or_any,
    )
    rate_limit_token: str = _row(
        "",
        "How many requests a token, a client or an issuer may make, as in 600/minute; above it the answer is 429. Each"
        " process counts for itself. Empty: as many as it likes.",
        check=valid_rate,
    )
    rate_limit_address: str = _row(
        "", "The same for a client's address (of IPv6 its /64 network), whoever asks from there.", check=valid_rate
    )
    audit_days: int = _row(
        90,
        "How many days the record of reads is kept in the folder `data`. 0: reads are not recorded.",
        maximum=36500,
    )
    webhook_allowed_hosts: str = _row(
        "",
        "Hosts, host:port, addresses or networks to which webhooks may go although they are private or speak plain"
        " http; commas stand between them, as in hooks.lan:8080, 10.1.0.0/16. Empty: public addresses by https only.",
        check=validate_allowlist,
    )
    connection_limit: int = _row(1000, "The most connections that are open at once.", minimum=1)
    channel_timeout: int = _row(60, "The seconds after which a connection on which nothing moves is closed.", minimum=1)
    log_level: str = _row(
        "info", "The least serious messages that are logged.", choices=("debug", "info", "warning", "error")
    )
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(name=f.name, default=f.default, **f.metadata) for f in fields(Settings) if f.default is not MISSING
)
BY_NAME: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in SETTINGS})


class SettingValue(NamedTuple):
    """A setting as `config show` prints it: passwords are replaced by ***."""

    name: str
    value: Value
    source: Source


def load_settings(arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from arguments, else `CHALK_*` variables, else the TOML file, else the defaults.

    An argument that is None was not given; one that is text is parsed. The file is the one that the argument `config`
    or `CHALK_CONFIG` names; without either, none is read. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    config = given.pop(CONFIG, None) or environ.get(PREFIX + CONFIG.upper())
    values: dict[str, Value] = {}
    sources: dict[str, Source] = {setting.name: "default" for setting in SETTINGS}
    layers: tuple[tuple[Source, Iterable[_RawValue]], ...] = (
        ("file", _from_file(Path(str(config))) if config else ()),
        ("environment", _from_environ(environ)),
        ("argument", _from_arguments(given)),
    )
    for source, layer in layers:
        for found in layer:
            values[found.setting.name] = _parsed(found)
            sources[found.setting.name] = source
    # Each row parses to the type of its own field, which the checker cannot follow.
    return Settings(**values, sources=MappingProxyType(sources))  # type: ignore[arg-type]  # see above


def describe_settings(settings: Settings) -> tuple[SettingValue, ...]:
    """Every setting with the value in force and where it came from, in the order of the table."""
    return tuple(_described(settings, setting) for setting in SETTINGS)


def example_toml() -> str:
    """The text of `config/chalk.example.toml`: every setting with its help, commented out at its default."""
    head = (
        "Settings of Chalk Flask, each at its default. Uncomment what you change, and name the file with --config"
        " or CHALK_CONFIG. CHALK_* variables win over it, as CHALK_PORT over port; CHALK_PORT_FILE and the like"
        " name a file that holds the value."
    )
    return "\n".join(
        [_comment(head), *(f"\n{_comment(_explained(s))}\n# {s.name} = {_toml(s.default)}" for s in SETTINGS), ""]
    )


class _RawValue(NamedTuple):
    setting: Setting
    raw: object
    origin: str


def _from_arguments(arguments: Mapping[str, object]) -> Iterator[_RawValue]:
    for name, raw in arguments.items():
        yield _RawValue(_known(name, "argument", [*BY_NAME, CONFIG]), raw, f"argument {name}")


def _from_environ(environ: Mapping[str, str]) -> Iterator[_RawValue]:
    variables = {setting.variable: setting for setting in SETTINGS}
    in_files = {variable + FROM_FILE: setting for variable, setting in variables.items()}
    names = [*variables, *in_files, PREFIX + CONFIG.upper()]
    for name, text in environ.items():
        if name in variables:
            yield _RawValue(variables[name], text, f"environment variable {name}")
        elif name in in_files:
            yield _RawValue(in_files[name], _content(name, text, environ), f"the file that {name} names")
        elif name.startswith(PREFIX) and name not in names:
            raise SettingsError(f"there is no setting {name} in the environment{_closest(name, names)}")


def _from_file(path: Path) -> Iterator[_RawValue]:
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from error
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    for name, raw in table.items():
        yield _RawValue(_known(name, f"settings file {path}", list(BY_NAME)), raw, f"settings file {path}")


def _content(variable: str, path: str, environ: Mapping[str, str]) -> str:
    direct = variable.removesuffix(FROM_FILE)
    if direct in environ:
        raise SettingsError(f"both {direct} and {variable} are set: remove one of them")
    try:
        return re.sub(r"\r?\n\Z", "", _read(Path(path)))
    except OSError as error:
        raise SettingsError(f"{variable} names {path}, which cannot be read: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read as UTF-8 text") from error


def _known(name: str, place: str, names: list[str]) -> Setting:
    if name in BY_NAME:
        return BY_NAME[name]
    raise SettingsError(f"there is no setting {name!r} ({place}){_closest(name, names)}")


def _closest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"


def _parsed(given: _RawValue) -> Value:
    setting = given.setting
    try:
        return setting.parse(given.raw)
    except ValueError as wanted:
        shown = setting.to_text(given.raw)
        raise SettingsError(f"{setting.name} cannot be {shown!r} ({given.origin}): it must be {wanted}") from None


def _described(settings: Settings, setting: Setting) -> SettingValue:
    value: Value = getattr(settings, setting.name)
    source = settings.sources.get(setting.name, "default")
    return SettingValue(setting.name, setting.to_text(value) if setting.secret else value, source)


def _comment(text: str) -> str:
    return textwrap.fill(
        text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _explained(setting: Setting) -> str:
    limited = setting.choices or setting.maximum is not None or setting.minimum > 1
    return f"{setting.help} Allowed: {setting.allowed}." if limited else setting.help


def _toml(value: Value) -> str:
    # The text of our defaults needs no escapes, and a bool is an int that TOML writes in small letters.
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
