"""Names of browsers for the list of sessions, such as `Firefox on Linux`."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["browser_name"]

# The order matters: most browsers also name the browsers with which they are compatible.
_BROWSERS = (
    ("Edge", re.compile(r"\bEdg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"\b(?:OPR|Opera)/")),
    ("Samsung Internet", re.compile(r"\bSamsungBrowser/")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(?:Chrome|Chromium|CriOS|HeadlessChrome)/")),
    ("Safari", re.compile(r"\bSafari/")),
)
_SYSTEMS = (
    ("Android", re.compile(r"\bAndroid\b")),
    ("iPhone", re.compile(r"\biPhone\b")),
    ("iPad", re.compile(r"\biPad\b")),
    ("ChromeOS", re.compile(r"\bCrOS\b")),
    ("Windows", re.compile(r"\bWindows\b")),
    ("macOS", re.compile(r"\bMac OS X\b")),
    ("Linux", re.compile(r"\bLinux\b")),
)
_MAX_USER_AGENT_LENGTH = 512


def browser_name(user_agent: str | None) -> str:
    """Return browser and system of a `User-Agent` header, such as `Firefox on Linux`, without versions."""
    text = (user_agent or "")[:_MAX_USER_AGENT_LENGTH]
    browser = _find(_BROWSERS, text) or "Unknown browser"
    system = _find(_SYSTEMS, text)
    return f"{browser} on {system}" if system else browser


def _find(table: Sequence[tuple[str, re.Pattern[str]]], text: str) -> str | None:
    return next((name for name, pattern in table if pattern.search(text)), None)
