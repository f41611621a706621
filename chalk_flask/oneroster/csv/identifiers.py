"""Ids that a spreadsheet or a script changed in one file, so that references to them lead nowhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from chalk_flask.oneroster.fields.scalars import clean_id

__all__ = ["CHANGED_FILE_HINT", "CHANGED_ID_HINT", "difference", "normalized_id"]

CHANGED_ID_HINT = (
    "A program changed the id in one of the files: format the columns as text, and export both files again."
)
CHANGED_FILE_HINT = (
    "A program changed the id in this package or in an earlier one: format the columns as text, and export it again."
)

_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))


def _without_formula(key: str) -> str:
    return key[2:-1] if key.startswith('="') and key.endswith('"') else key


_NORMALIZATIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("blanks at its ends or invisible characters", clean_id),
    ("a typographic dash", lambda key: key.translate(_DASHES)),
    ("the Unicode form of its letters", lambda key: unicodedata.normalize("NFKC", key)),
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
