"""Text and identifiers in the form that PostgreSQL can store.

PostgreSQL stores no NUL character. The six lowest code points are written as pairs of code points from 1 to 5. Pairs
keep the order, equality and substrings of all texts, because first and second code points of a pair never overlap.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["array_literal", "decode_text", "encode_text", "identifier", "partition_name"]

_FIRST = (1, 1, 1, 2, 2, 2)
_PAIRS = {code: chr(_FIRST[code]) + chr(3 + code % 3) for code in range(6)}
_CODES = {pair: chr(code) for code, pair in _PAIRS.items()}
_PAIR = re.compile("[\1\2][\3\4\5]")

_MAX_IDENTIFIER_BYTES = 63
_HASH_DIGITS = 16
_PLAIN_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:@+-]+")


def encode_text(text: str) -> str:
    """Return the text as it is stored."""
    return text if text.isprintable() else text.translate(_PAIRS)


def decode_text(text: str) -> str:
    """Return a stored text in its original form."""
    return text if text.isprintable() else _PAIR.sub(lambda pair: _CODES[pair[0]], text)


def identifier(name: str) -> str:
    """Return a name as a quoted identifier of at most 63 bytes. Other names than plain ones end with their hash."""
    if len(name) > _MAX_IDENTIFIER_BYTES or not _PLAIN_IDENTIFIER.fullmatch(name):
        plain = re.sub(r"[^A-Za-z0-9_.:@+-]", "_", name)
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        name = f"{plain[: _MAX_IDENTIFIER_BYTES - _HASH_DIGITS - 1]}~{digest[:_HASH_DIGITS]}"
    return f'"{name}"'


def partition_name(table: str, partition: int) -> str:
    """Return the name of a partition of a table."""
    return f"{table}@{partition}"


def array_literal(values: list[str | None]) -> str:
    """Return the values as the text form of a PostgreSQL array of text."""
    return "{" + ",".join(map(_array_element, values)) + "}"


def _array_element(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
