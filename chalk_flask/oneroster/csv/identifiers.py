"""Ids that a spreadsheet or a script changed in one file, so that references to them lead nowhere."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CHANGED_ID_HINT", "difference", "normalized_id"]

CHANGED_ID_HINT = (
    "A program changed the id in one of the files: format the columns as text, and export both files again."
)

INVISIBLE_CHARACTERS = " \t\xa0\ufeff\u200b\u200c\u200d"


def _without_formula(key: str) -> str:
    return key[2:-1] if key.startswith('="') and key.endswith('"') else key


_NORMALIZATIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("blanks or invisible characters at its ends", lambda key: key.strip(INVISIBLE_CHARACTERS)),
    ('the form ="..." of a formula', _without_formula),
    ("an apostrophe at its beginning", lambda key: key.removeprefix("'")),
    ("the decimals .0 at its end", lambda key: key.removesuffix(".0")),
    ("leading zeros", lambda key: key.lstrip("0") or key),
    ("letter case", str.casefold),
)
"""Changes of an id and the functions that undo them, in their order."""


def normalized_id(key: str) -> str:
    """Return the id without what spreadsheets and scripts add, remove or change."""
    for _, normalize in _NORMALIZATIONS:
        key = normalize(key)
    return key


def difference(key: str, other: str) -> str:
    """Return the last change that two ids with the same normalized form must undo to be equal."""
    for change, normalize in _NORMALIZATIONS:
        key, other = normalize(key), normalize(other)
        if key == other:
            return change
    return ""
