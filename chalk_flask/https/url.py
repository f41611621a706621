"""Parser of the URLs of servers that the service sends requests to."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

__all__ = ["InsecureUrlError", "InvalidUrlError", "UrlCredentialsError", "parse_url", "without_credentials"]

MAX_URL_LENGTH = 1000
MAX_SHOWN_LENGTH = 200

_VISIBLE_ASCII = re.compile(r"[!-~]*")
_USER_INFO = re.compile(r"\A(\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]+)?.*@", re.DOTALL)
_QUERY = re.compile(r"[?#].*", re.DOTALL)


class InvalidUrlError(ValueError):
    """Invalid URL; the message quotes it without credentials and says what is wrong."""


class InsecureUrlError(InvalidUrlError):
    """URL without https that leads to another machine."""


class UrlCredentialsError(InvalidUrlError):
    """URL with a user name or a password."""


def parse_url(text: str, label: str = "URL") -> SplitResult:
    """Return the parts of a URL: https, or http on this machine. Messages of errors name it as `label` says.

    Raises InvalidUrlError, also for a URL with a fragment, UrlCredentialsError and InsecureUrlError.
    """
    prefix = f"invalid {label} {without_credentials(text)!r}:"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidUrlError(f"{prefix} the host or the port is invalid: check them") from None
    if "@" in parts.netloc:
        raise UrlCredentialsError(f"{prefix} it must not contain a name and a password: remove them")
    if reason := _syntax_error(text, parts):
        raise InvalidUrlError(f"{prefix} {reason}")
    if parts.scheme != "https" and not (parts.scheme == "http" and host and _is_loopback(host)):
        raise InsecureUrlError(f"{prefix} it must begin with https:// (http:// on this machine only)")
    if not host:
        raise InvalidUrlError(f"{prefix} the host is missing: write it after https://")
    return parts


def without_credentials(url: str) -> str:
    """Return the start of a URL for a message: *** for user name and password, and no query or fragment.

    A password can contain any character, so the last @ ends it.
    """
    return _QUERY.sub("", _USER_INFO.sub(r"\1***@", url))[:MAX_SHOWN_LENGTH]


def _syntax_error(text: str, parts: SplitResult) -> str:
    """Return what is wrong with the characters of a URL, and what to do; empty if they are valid."""
    if len(text) > MAX_URL_LENGTH:
        return f"it has {len(text)} characters; the maximum is {MAX_URL_LENGTH}"
    if not _VISIBLE_ASCII.fullmatch(text):
        return "it contains a blank, a control character or one that is not ASCII: percent-encode or remove it"
    return "it must not contain a fragment (#...): remove it" if parts.fragment else ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
