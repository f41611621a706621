"""Parser of the URLs of servers that the service sends requests to."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

__all__ = ["InsecureUrlError", "InvalidUrlError", "parse_url"]

_URL = re.compile(r"[!-~]{1,1000}")


class InvalidUrlError(ValueError):
    """Invalid URL; the message quotes it."""


class InsecureUrlError(InvalidUrlError):
    """URL without https that leads to another machine; the message quotes it."""


def parse_url(text: str) -> SplitResult:
    """Return the parts of a URL: https, or http on this machine.

    Raises InvalidUrlError, also for a URL with a user name or a fragment, and InsecureUrlError.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not _URL.fullmatch(text) or parts.username is not None or parts.fragment:
        raise InvalidUrlError(f"invalid URL {text!r}")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise InsecureUrlError(f"invalid URL {text!r}: it must begin with https:// (http:// on this machine only)")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
