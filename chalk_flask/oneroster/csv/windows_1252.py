"""Text that is not UTF-8: its bytes are lone surrogates. Only text that looks like Windows-1252 is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["from_windows_1252", "has_undecoded_bytes", "has_utf8_letters"]

# Patterns are texts: `re` compiles them at their first use, and most imports need none of them.
_UNDECODED = "[\udc80-\udcff]"
_UTF8_LETTER = "[^\0-\x7f\udc80-\udcff\ufeff\ufffd]"
_OTHER_ENCODING = (
    r"[a-z][\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2022\u02dc\u0178]"  # small letters of MacRoman
    r"|[^\0-\x7f\u2013-\u2026]{4}"  # Chinese, Cyrillic or Greek letters
)
"""Signs of another encoding in text that is decoded as Windows-1252."""


def has_undecoded_bytes(text: str) -> bool:
    """Return True if the text contains lone surrogates, which stand for bytes that are not UTF-8."""
    return not text.isascii() and re.search(_UNDECODED, text) is not None


def has_utf8_letters(lines: Iterable[str]) -> bool:
    """Return True if the text contains letters beyond ASCII that are valid UTF-8."""
    return any(not line.isascii() and re.search(_UTF8_LETTER, line) for line in lines)


def from_windows_1252(cell: str) -> str | None:
    """Return the cell decoded as Windows-1252; None if it does not look like that encoding."""
    try:
        decoded = cell.encode("utf-8", "surrogateescape").decode("cp1252")
    except ValueError:
        return None
    return None if re.search(_OTHER_ENCODING, decoded) else decoded
