"""Names of the files of a package, and names that programs and people give them instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from chalk_flask.oneroster.csv.manifest import MANIFEST
from chalk_flask.oneroster.schemas import FILES

__all__ = ["KNOWN_FILE_NAMES", "naming_hint", "other_format", "similar_name"]

KNOWN_FILE_NAMES = {MANIFEST, *(f"{name}.csv" for name in FILES)}

_NAMES_BY_LETTERS = {
    **{resource_type.singular_name.lower(): f"{name}.csv" for name, resource_type in FILES.items()},
    **{name.partition(".")[0].lower(): name for name in KNOWN_FILE_NAMES},
}

_SPREADSHEET_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_ENCRYPTED_SUFFIXES = (".pgp", ".gpg", ".asc", ".age", ".enc")
_UNFINISHED_SUFFIXES = (".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".temp", ".incomplete")
"""Suffixes that programs remove at the end of a transfer."""

_OTHER_FORMATS = (
    ({"school", "section", "student"}, "School Data Sync, version 1"),
    ({"schools", "sections", "students"}, "Clever"),
    ({"users", "roles"}, "OneRoster 1.2 or School Data Sync, version 2.1"),
)
"""Files of other formats without `.csv`, in lower case, with the name of the format."""


def similar_name(name: str) -> str | None:
    """Return the file name of the standard that another name stands for, such as `users.csv` for `User (1).CSV`.

    Spreadsheet programs add the name of the workbook before that of the sheet, or words such as "Copy of".
    """
    letters = "".join(letter for letter in name.partition(".")[0].lower() if letter.isalpha())
    if similar := _NAMES_BY_LETTERS.get(letters) or _NAMES_BY_LETTERS.get(letters.removesuffix("copy")):
        return similar
    file = Path(name.strip().lower())
    if file.suffix not in (".csv", *_SPREADSHEET_SUFFIXES):
        return None
    words = re.findall(r"[^\W\d_]+", file.stem)
    ends = ("".join(words[start:]) for start in range(1, len(words)))
    starts = ("".join(words[:end]) for end in range(len(words) - 1, 0, -1))
    return next((_NAMES_BY_LETTERS[part] for part in (*ends, *starts) if part in _NAMES_BY_LETTERS), None)


def naming_hint(actual: str, name: str) -> str:
    """Return how to turn a file with another name into the file of the standard with this name."""
    quoted = actual if actual.strip() == actual and actual.isprintable() else repr(actual)
    lower_case = actual.strip().lower()
    if lower_case.endswith(_SPREADSHEET_SUFFIXES):
        return f"Save {quoted} as CSV UTF-8, named {name}."
    if lower_case.endswith(_UNFINISHED_SUFFIXES):
        return f"Wait until {quoted} is written completely and called {name}, or export it again."
    if lower_case.endswith(_PACKED_SUFFIXES):
        return f"Unpack {quoted} to {name}."
    if lower_case.endswith(_ENCRYPTED_SUFFIXES):
        return f"Decrypt {quoted} to {name}."
    return f"Rename {quoted} to {name}."


def other_format(names: Iterable[str]) -> str | None:
    """Return the format of a package without manifest that has files of another format with these names."""
    stems = {name.lower().removesuffix(".csv") for name in names}
    return next((label for files, label in _OTHER_FORMATS if files <= stems), None)
