"""Rules for e-mail addresses and for the settings of mail. They exclude every character that ends a header."""

from __future__ import annotations

import re

__all__ = ["MAX_ADDRESS_LENGTH", "is_mail_address", "parse_sender", "validate_mail_host", "validate_sender"]

MAX_ADDRESS_LENGTH = 254
"""Maximum length of an e-mail address (RFC 5321, section 4.5.3.1.3, without the angle brackets)."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_DOMAIN}")
"""Address without quoted parts and comments, in ASCII (RFC 5321, section 4.1.2)."""
_SENDER = re.compile(r"([^<>\"@,;:\\]{1,100}) <([^<>]+)>")
_HOST = re.compile(rf"{_DOMAIN}|[0-9a-fA-F:.]{{2,45}}")


def is_mail_address(text: str) -> bool:
    """Return True for an e-mail address in ASCII, without a name and without quotes."""
    return len(text) <= MAX_ADDRESS_LENGTH and _ADDRESS.fullmatch(text) is not None


def parse_sender(text: str) -> tuple[str, str] | None:
    """Return name and address of `Name <address>` or of an address alone; None for another text."""
    if is_mail_address(text):
        return "", text
    match = _SENDER.fullmatch(text)
    if match is None or not text.isprintable() or not is_mail_address(match[2]):
        return None
    return match[1].strip(), match[2]


def validate_sender(value: str) -> str | None:
    """Return None for an empty text or a sender, otherwise the rule."""
    if not value or parse_sender(value):
        return None
    return "an e-mail address, or a name and an address such as Roster <roster@example.org>, or empty"


def validate_mail_host(value: str) -> str | None:
    """Return None for an empty text, a host name or an address, otherwise the rule."""
    return None if not value or _HOST.fullmatch(value) else "a host name or an IP address without a port, or empty"
