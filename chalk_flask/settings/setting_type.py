"""Description of a setting: its type and rules, the parser of its values, and their display without passwords."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin
from urllib.parse import urlsplit

from msgspec import Meta, Struct, ValidationError, convert

__all__ = [
    "Count",
    "NonEmptyText",
    "PositiveCount",
    "Rate",
    "Secret",
    "Setting",
    "SettingInfo",
    "SettingSection",
    "Value",
    "absolute_path",
    "normalize_address",
    "validate_address",
    "validate_origin",
    "without_passwords",
]

Value: TypeAlias = str | int | bool

MASK = "***"
"""Text that is shown in place of a secret."""

_BOOLEAN_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Words for booleans that msgspec does not have."""

# A description is the rule of the type, which continues "it must be". Types without one get theirs from the limits.
Count: TypeAlias = Annotated[int, Meta(ge=0)]
PositiveCount: TypeAlias = Annotated[int, Meta(ge=1)]
NonEmptyText: TypeAlias = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Rate: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\A(?:[1-9][0-9]{0,8}/(?:second|minute|hour|day))?\Z",
        description="a rate such as 600/minute (per second, minute, hour or day), or empty",
    ),
]
Secret: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\A(?:[A-Za-z0-9._~+/=-]{16,200})?\Z",
        description="16 to 200 letters, digits or . _ ~ + / = -, or empty",
    ),
]
"""Secret that is hard to guess and fits into a header."""


class SettingSection(StrEnum):
    """Group of settings in help texts and in the documentation."""

    STORE = "Store"
    SERVER = "Server"
    SIGN_IN = "Sign-in"
    API = "API"
    IMPORTS = "Imports"
    LIMITS = "Limits"
    TIMEOUTS = "Timeouts"
    LOGS = "Logs"
    WEBHOOKS = "Webhooks"
    MONITORING = "Monitoring"
    MAIL = "Mail"


class SettingInfo(Struct, frozen=True):
    """Help and rules of a setting, beside its type.

    `check` returns None for a valid text, otherwise the rule that continues "it must be". `normalize` returns the usual
    form of a valid text. The value of a `secret` setting is never shown. It has no command line option: other users can
    read the arguments of a process. A setting with `has_passwords` is shown without them.
    """

    section: SettingSection
    help: str
    secret: bool = False
    has_passwords: bool = False
    check: Callable[[str], str | None] | None = None
    normalize: Callable[[str], str] | None = None


class Setting(Struct, frozen=True):
    """Description of a setting. `type` is the type of its values, with the limits that msgspec checks."""

    name: str
    default: Value
    info: SettingInfo
    type: Any = str

    @property
    def help(self) -> str:
        """Description of the setting, in sentences."""
        return self.info.help

    @property
    def summary(self) -> str:
        """First sentence of the description."""
        return re.split(r"(?<=\.) (?=[A-Z])", self.help, maxsplit=1)[0]

    @property
    def secret(self) -> bool:
        """True if the value is never shown."""
        return self.info.secret

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return f"CHALK_{self.name.upper()}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Valid texts of a setting with a fixed choice, otherwise empty."""
        return get_args(self._base_type) if get_origin(self._base_type) is Literal else ()

    @property
    def is_restricted(self) -> bool:
        """True if the setting has limits beyond its type."""
        limits = self._limits
        return bool(self.choices) or limits.le is not None or (limits.ge or 0) > 1

    @property
    def allowed(self) -> str:
        """Rule for the values, which continues "it must be"."""
        limits = self._limits
        if limits.description:
            return limits.description
        if self._base_type is bool:
            return "true or false"
        if self._base_type is int:
            upper = " or more" if limits.le is None else f" to {limits.le}"
            return f"a whole number, {limits.ge}{upper}"
        return f"one of {', '.join(self.choices)}" if self.choices else "text"

    def parse(self, raw: object) -> Value:
        """Return the value of `raw`, which is a value or its text; spaces around a text are ignored.

        Raises ValueError, whose message is the rule that `raw` violates.
        """
        is_text = isinstance(raw, str)
        text = raw.strip() if isinstance(raw, str) else raw
        if isinstance(text, str) and self._base_type is bool:
            text = _BOOLEAN_WORDS.get(text.lower(), text.lower())
        try:
            value: Value = convert(text, self.type, strict=not is_text)
        except ValidationError:
            raise ValueError(self.allowed) from None
        if not isinstance(value, str):
            return value
        if self.info.check and (rule := self.info.check(value)):
            raise ValueError(rule)
        return self.info.normalize(value) if self.info.normalize else value

    def to_text(self, value: object) -> str:
        """Return the value as text, with *** in place of secrets and passwords. An empty text stays empty."""
        if self.info.secret:
            return MASK if value else ""
        return without_passwords(str(value)) if self.info.has_passwords else str(value)

    @property
    def _base_type(self) -> Any:
        return get_args(self.type)[0] if get_origin(self.type) is Annotated else self.type

    @property
    def _limits(self) -> Meta:
        return next((item for item in getattr(self.type, "__metadata__", ()) if isinstance(item, Meta)), Meta())


def validate_origin(value: str) -> str | None:
    """Return None for an empty text or an http(s) URL to which paths can be appended, otherwise the rule."""
    try:
        parts = urlsplit(value)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        is_origin = False
    else:
        if "@" in parts.netloc:
            return "a URL without a name and a password"
    if not value or (is_origin and not value.endswith("/")):
        return None
    return "an http:// or https:// URL without a trailing slash, or empty"


def validate_address(value: str) -> str | None:
    """Return None for an empty text, an IP address or *, otherwise the rule."""
    try:
        if value not in ("", "*"):
            ipaddress.ip_address(value)
    except ValueError:
        return "an IP address, * for any address, or empty"
    return None


def absolute_path(value: str) -> str:
    """Return the absolute form of a path, without `..`. An empty text stays empty."""
    path = Path(value)
    # What `..` means depends on links. Other paths keep their links, because their owner knows these names.
    return str(path.resolve() if ".." in path.parts else path.absolute()) if value else ""


def normalize_address(value: str) -> str:
    """Return the usual notation of an address, in which a connection names its other end; other texts unchanged."""
    if value in ("", "*"):
        return value
    address = ipaddress.ip_address(value)
    return str((address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address)


def without_passwords(url: str) -> str:
    """Return a URL with *** in place of its password and of passwords, secrets, tokens and keys in its query."""
    # The scheme of a mistyped URL may have no slashes, and only one may follow it.
    url = re.sub(r"(//[^/:@]*:|^[A-Za-z][\w+.-]+:/?[^/:@]*:).*@", rf"\1{MASK}@", url)
    return re.sub(r"(?i)([?&;][a-z_]*(?:passw|pwd|secret|token|key)[a-z_]*=)[^&;#]*", rf"\1{MASK}", url)
