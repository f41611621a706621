"""Deviations from the standard that lenient reading accepts. `TOLERANCES` is the table; `docs/reference` shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from chalk_flask.oneroster import vocabularies

__all__ = [
    "ASSISTANT_ROLES",
    "DATE",
    "DELIMITER",
    "FILE_NAME_CASE",
    "HEADER_CASE",
    "LENIENT_READING",
    "MISSING_COLUMN",
    "MISSING_MANIFEST",
    "NULL_WORD",
    "ROLE_MAP_EXAMPLE",
    "ROLE_SYNONYM",
    "ROLE_SYNONYMS",
    "STRAY_CHARACTERS",
    "SYNONYM_WORDS",
    "TOLERANCES",
    "USER_IDS",
    "WINDOWS_1252",
    "WORD",
    "Tolerance",
    "parse_role_map",
    "role_key",
]


class Tolerance(NamedTuple):
    """Deviation that lenient reading accepts: id, code of the warning, the deviation, and what is done with it."""

    id: str
    code: str
    deviation: str
    effect: str


MISSING_COLUMN = Tolerance(
    "T-01", "tolerated_missing_column", "a column without required values is missing", "Its cells count as empty"
)
MISSING_MANIFEST = Tolerance(
    "T-02", "tolerated_missing_manifest", "`manifest.csv` is missing", "All files of the package count as bulk files"
)
HEADER_CASE = Tolerance(
    "T-03", "tolerated_header_case", "names in a header are written in another letter case", "The columns are used"
)
USER_IDS = Tolerance(
    "T-04", "tolerated_user_ids", "`userIds` is not written `{type:id}`", "The cell is left out; the user is read"
)
ROLE_SYNONYM = Tolerance(
    "T-05", "tolerated_role", "a role has another word or letter case", "The role of the table of synonyms is used"
)
WINDOWS_1252 = Tolerance(
    "T-06", "tolerated_encoding", "text is encoded as Windows-1252", "It is decoded as Windows-1252"
)
DELIMITER = Tolerance(
    "T-07",
    "tolerated_delimiter",
    "a file is separated by semicolons or tabs",
    "The file is read with this delimiter. Semicolons in lists separate items",
)
STRAY_CHARACTERS = Tolerance(
    "T-08", "tolerated_id", "an id or a reference has blanks around it or invisible characters", "They are removed"
)
NULL_WORD = Tolerance(
    "T-09",
    "tolerated_null_word",
    "a cell that may be empty has a word for an absent value, such as `NULL` or `\\N`",
    "It is read as empty. Words that may be names of persons stay",
)
WORD = Tolerance(
    "T-10",
    "tolerated_word",
    "a word of a vocabulary has another letter case, a boolean is `1`, `0`, `yes` or `no`, or a sex is `M` or `F`",
    "The word of the standard is used",
)
DATE = Tolerance(
    "T-11",
    "tolerated_date",
    "a date is written `YYYY/MM/DD` or `YYYYMMDD`, or has a time that is midnight UTC",
    "The day is used",
)
FILE_NAME_CASE = Tolerance(
    "T-12", "tolerated_file_name", "names of files are written in another letter case", "The files are read"
)

TOLERANCES: tuple[Tolerance, ...] = (
    MISSING_COLUMN,
    MISSING_MANIFEST,
    HEADER_CASE,
    USER_IDS,
    ROLE_SYNONYM,
    WINDOWS_1252,
    DELIMITER,
    STRAY_CHARACTERS,
    NULL_WORD,
    WORD,
    DATE,
    FILE_NAME_CASE,
)
"""Table of the tolerances. An id never changes and is never used again."""

ROLE_MAP_EXAMPLE = "aide=teacher"

LENIENT_READING = "Lenient reading (--lenient)"
"""Name of lenient reading in hints: of the choice in the console, and of the option of the command line."""

_USER_ROLES = {
    "pupil": "student",
    "learner": "student",
    "instructor": "teacher",
    "educator": "teacher",
    "faculty": "teacher",
    "assistant": "aide",
    "paraprofessional": "aide",
    "teacherAide": "aide",
    "admin": "administrator",
    "principal": "administrator",
    "districtAdministrator": "administrator",
    "siteAdministrator": "administrator",
    "systemAdministrator": "administrator",
    "carer": "guardian",
    "caregiver": "guardian",
    "mother": "parent",
    "father": "parent",
}
_ASSISTANTS = ("aide", "assistant", "coTeacher", "paraprofessional", "teacherAide")
_ENROLLMENT_ROLES = {
    "pupil": "student",
    "learner": "student",
    "instructor": "teacher",
    "educator": "teacher",
    "faculty": "teacher",
    **dict.fromkeys(_ASSISTANTS, "teacher"),
    "admin": "administrator",
    **dict.fromkeys(("guardian", "parent", "relative"), "proctor"),
}

_NOT_A_LETTER = re.compile(r"[\W_]+")


def role_key(role: str) -> str:
    """Return the key by which a role is looked up: without letter case, blanks, hyphens and underscores."""
    return _NOT_A_LETTER.sub("", role).casefold()


SYNONYM_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"users": _USER_ROLES, "enrollments": _ENROLLMENT_ROLES}
)
"""Table of the synonyms of roles, by file."""


def _synonyms(roles: tuple[str, ...], synonyms: Mapping[str, str]) -> Mapping[str, str]:
    """Return the role of the standard by `role_key`, of each role and each synonym."""
    return MappingProxyType(
        {role_key(word): role for word, role in (*synonyms.items(), *((role, role) for role in roles))}
    )


ROLE_SYNONYMS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        name: _synonyms(roles, SYNONYM_WORDS[name])
        for name, roles in (("users", vocabularies.ROLES), ("enrollments", vocabularies.ENROLLMENT_ROLES))
    }
)
"""Roles of the standard by file and by `role_key` of a synonym.

The enrollment of a guardian becomes that of a proctor, the role with the fewest rights.
"""

ASSISTANT_ROLES = frozenset(map(role_key, _ASSISTANTS))
"""Keys of the synonyms whose enrollment becomes that of a teacher who is not the primary one."""


def parse_role_map(text: str) -> Mapping[str, str]:
    """Return the role of the standard by `role_key` of a map such as `aide=teacher, tutor=teacher`.

    Raises ValueError, whose message continues "it must be".
    """
    roles: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        word, _, role = (part.strip() for part in pair.partition("="))
        if not role_key(word) or role not in vocabularies.ROLES:
            allowed = ", ".join(vocabularies.ROLES)
            raise ValueError(f"pairs such as {ROLE_MAP_EXAMPLE}, separated by commas; the roles are {allowed}")
        roles[role_key(word)] = role
    return MappingProxyType(roles)
