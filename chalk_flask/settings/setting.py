"""One row of the settings table: what a setting may hold, how text becomes it, and how it is shown."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

__all__ = ["Setting", "Value", "address_or_any", "not_empty", "valid_origin", "valid_rate", "without_passwords"]

Value: TypeAlias = str | int | bool

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, whose type is the type of its default.

    `check` says what is allowed when a text will not do, and nothing otherwise. The value of a `secret` setting is
    shown without passwords.
    """

    name: str
    default: Value
    help: str
    secret: bool = False
    minimum: int = 0
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return f"CHALK_{self.name.upper()}"

    @property
    def allowed(self) -> str:
        """What the setting may hold, in words that follow "must be"."""
        match self.default:
            case bool():
                return "true or false"
            case int():
                most = f" to {self.maximum}" if self.maximum is not None else " or more"
                return f"a whole number, {self.minimum}{most}"
            case _:
                return f"one of {', '.join(self.choices)}" if self.choices else "text"

    def parse(self, raw: object) -> Value:
        """The value that `raw` stands for: itself, or text (spaces around it do not count).

        Raises ValueError, whose message says what is allowed instead.
        """
        value = self._typed(raw.strip() if isinstance(raw, str) else raw)
        if value is None or not self._within(value):
            raise ValueError(self.allowed)
        if self.check and (wanted := self.check(str(value))):
            raise ValueError(wanted)
        return value

    def to_text(self, value: object) -> str:
        """The value as it may be printed."""
        return without_passwords(str(value)) if self.secret else str(value)

    def _typed(self, raw: object) -> Value | None:
        match self.default, raw:
            case bool(), str():
                return WORDS.get(raw.lower())
            case bool(), _:
                return raw if isinstance(raw, bool) else None
            case int(), str():
                return int(raw) if re.fullmatch(r"-?[0-9]{1,18}", raw) else None
            case int(), int() if not isinstance(raw, bool):
                return raw
            case str(), str():
                return raw
        return None

    def _within(self, value: Value) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return isinstance(value, bool) or (value >= self.minimum and (self.maximum is None or value <= self.maximum))


def not_empty(value: str) -> str | None:
    """Anything but nothing."""
    return None if value else "something"


def valid_origin(value: str) -> str | None:
    """Nothing, or the http(s) address of a site or of a path on it, to which paths can be appended."""
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        whole = False
    if not value or (whole and not value.endswith("/")):
        return None
    return "an http:// or https:// address without a trailing slash, or nothing"


def address_or_any(value: str) -> str | None:
    """Nothing, an IP address, or * for any."""
    try:
        if value not in ("", "*"):
            ipaddress.ip_address(value)
    except ValueError:
        return "an IP address, * for any, or nothing"
    return None


def valid_rate(value: str) -> str | None:
    """Nothing, or how many of something in how long."""
    if not value or re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", value):
        return None
    return "a number and a time such as 600/minute (second, minute, hour or day), or nothing"


def without_passwords(url: str) -> str:
    """The URL with the password of its authority, and passwords, tokens and keys of its query, replaced by ***."""
    url = re.sub(r"(//[^/:@]*:).*@", r"\1***@", url)
    return re.sub(r"(?i)([?&;][a-z_]*(?:passw|pwd|secret|token|key)[a-z_]*=)[^&;#]*", r"\1***", url)
