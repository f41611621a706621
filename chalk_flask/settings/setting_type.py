"""Description of a setting: its type and rules, the parser of its values, and their display without passwords."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

__all__ = [
    "Setting",
    "Value",
    "absolute_path",
    "normalize_address",
    "validate_address",
    "validate_not_empty",
    "validate_origin",
    "validate_rate",
    "validate_secret",
    "without_passwords",
]

Value: TypeAlias = str | int | bool

MASK = "***"
"""Text that is shown in place of a secret."""

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """Description of a setting; the type of the default is the type of its values.

    `check` returns None for a valid text, otherwise the rule that continues "it must be". `normalize` returns the usual
    form of a valid text. `minimum` and `maximum` restrict numbers. The value of a `secret` setting is never shown, and
    it has no command line option, because other users can read the arguments of a process. A setting with
    `has_passwords` is shown without them.
    """

    name: str
    default: Value
    help: str
    secret: bool = False
    has_passwords: bool = False
    minimum: int = 0
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None
    normalize: Callable[[str], str] | None = None

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return f"CHALK_{self.name.upper()}"

    @property
    def allowed(self) -> str:
        """Rule for the values, which continues "it must be"."""
        match self.default:
            case bool():
                return "true or false"
            case int():
                upper = f" to {self.maximum}" if self.maximum is not None else " or more"
                return f"a whole number, {self.minimum}{upper}"
            case _:
                return f"one of {', '.join(self.choices)}" if self.choices else "text"

    def parse(self, raw: object) -> Value:
        """Return the value of `raw`, which is a value or its text; spaces around a text are ignored.

        Raises ValueError, whose message is the rule that `raw` violates.
        """
        value = self._convert(raw.strip() if isinstance(raw, str) else raw)
        if value is None or not self._is_in_range(value):
            raise ValueError(self.allowed)
        if self.check and (rule := self.check(str(value))):
            raise ValueError(rule)
        return self.normalize(value) if self.normalize and isinstance(value, str) else value

    def to_text(self, value: object) -> str:
        """Return the value as text, with *** in place of secrets and passwords. An empty text stays empty."""
        if self.secret:
            return MASK if value else ""
        return without_passwords(str(value)) if self.has_passwords else str(value)

    def _convert(self, raw: object) -> Value | None:
        match self.default, raw:
            case bool(), str():
                return _BOOLEANS.get(raw.lower())
            case bool(), _:
                return raw if isinstance(raw, bool) else None
            case int(), str():
                return int(raw) if re.fullmatch(r"-?[0-9]{1,18}", raw) else None
            case int(), int() if not isinstance(raw, bool):
                return raw
            case str(), str():
                return raw
        return None

    def _is_in_range(self, value: Value) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return isinstance(value, bool) or (value >= self.minimum and (self.maximum is None or value <= self.maximum))


def validate_not_empty(value: str) -> str | None:
    """Return None for a text that is not empty, otherwise the rule."""
    return None if value else "a text that is not empty"


def validate_origin(value: str) -> str | None:
    """Return None for an empty text or an http(s) URL to which paths can be appended, otherwise the rule."""
    try:
        parts = urlsplit(value)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        is_origin = False
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
    """Return the absolute form of a path. An empty text stays empty."""
    return str(Path(value).absolute()) if value else ""


def normalize_address(value: str) -> str:
    """Return the usual notation of an address, in which a connection names its other end; other texts unchanged."""
    if value in ("", "*"):
        return value
    address = ipaddress.ip_address(value)
    return str((address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address)


def validate_secret(value: str) -> str | None:
    """Return None for an empty text or a secret that is hard to guess and fits into a header, otherwise the rule."""
    if not value or re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,200}", value):
        return None
    return "16 to 200 letters, digits or . _ ~ + / = -, or empty"


def validate_rate(value: str) -> str | None:
    """Return None for an empty text or a rate, otherwise the rule."""
    if not value or re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", value):
        return None
    return "a rate such as 600/minute (per second, minute, hour or day), or empty"


def without_passwords(url: str) -> str:
    """Return a URL with *** in place of its password and of passwords, secrets, tokens and keys in its query."""
    url = re.sub(r"(//[^/:@]*:).*@", rf"\1{MASK}@", url)
    return re.sub(r"(?i)([?&;][a-z_]*(?:passw|pwd|secret|token|key)[a-z_]*=)[^&;#]*", rf"\1{MASK}", url)
