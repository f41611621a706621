"""Rows that are no records, but messages of the exporting program: counts of rows, and errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["is_error_message", "is_program_message"]

MAX_LENGTH = 500
"""Number of characters of a row that are examined."""

_NUMBER = "[0-9][0-9.,]*"
_ROWS = "(?:rows?|records?|lines?|entries|students?|users?)"
# Both patterns are texts: `re` compiles them at their first use, and most imports need neither.
_COUNT = (
    rf"(?i)\(?{_NUMBER} {_ROWS}(?: (?:affected|selected|exported|returned|written|fetched|in set.*))?\)?\.?"
    rf"|(?:grand )?total(?: (?:number of )?{_ROWS})?\s*[:=,]*\s*{_NUMBER}"
    rf"|{_ROWS}(?: count)?\s*[:=]+\s*{_NUMBER}"
    r"|\W*(?:end of (?:file|report|data|export)|eof)\W*"
    r"|(?:completion time|elapsed(?: time)?|finished at)\s*:.*"
)
"""Message at the end of a complete export."""

_ERROR = (
    r"(?is)msg [0-9]+, ?level .*"  # SQL Server
    r"|(?:ora|sp2|pls|tns)-[0-9]{4,5}:.*"  # Oracle
    r"|(?:php )?(?:(?:fatal|parse|syntax|unexpected|internal) )?(?:error|warning|notice|exception)(?: at .*)?:.*"
    r"|<(?:br|b|html|p|div|pre|font)\b.*"
    r"|traceback \(most recent call last\):"
    r"|segmentation fault.*"
    r"|[a-z_]+(?:\.[a-z_]+)+(?:exception|error)\b.*"
)


def is_program_message(row: Sequence[str]) -> bool:
    """Return True for a row that programs write below the last record, such as `(1234 rows affected)`."""
    return re.fullmatch(_COUNT, _text(row)) is not None


def is_error_message(row: Sequence[str]) -> bool:
    """Return True for a row with an error of the exporting program, after which records may be missing."""
    return re.fullmatch(_ERROR, _text(row)) is not None


def _text(row: Sequence[str]) -> str:
    """Return the beginning of the text that the row was before it was divided at commas."""
    return ",".join(row)[:MAX_LENGTH].strip(", \t\r\n")
