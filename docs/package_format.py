"""Reference page of the files and columns of a package, derived from the Schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from chalk_flask.oneroster.csv.manifest import ABSENT, ACCEPTED_VERSIONS, FILE_PREFIX, MODES
from chalk_flask.oneroster.fields import composites, scalars
from chalk_flask.oneroster.resource_type import Column, ResourceType
from chalk_flask.oneroster.schemas import FILES

__all__ = ["package_page"]

_HEAD = """\
# Files and columns of a package

A package is a ZIP file or a folder with `manifest.csv` and data files. This page lists what an import expects of them.
`chalk-flask validate FOLDER` reports where your files differ, see
[Validate a package](../how-to/validate-packages.md). The sample district in `chalk_flask/demo` shows each file.

- Files are UTF-8, with or without a byte order mark, and separated by commas. The first row names the columns.
- Every column of a table must be there, in any order. Its cells may be empty unless the table says *required*.
- In a bulk file, leave `status` and `dateLastModified` empty. In a delta file, they are required.
- A list has commas between its items, so its cell is quoted: `"09,10"`.
- A reference has the `sourcedId` of a row of the named file.
- Write the words of a vocabulary exactly as listed, with the same letter case.
- Grades are CEDS codes such as `KG`, `01` and `12`. Other codes are stored, with a warning.
- Columns that begin with `metadata.` are served as metadata. Other columns and files are ignored with a warning.

A roster needs `orgs.csv`, `academicSessions.csv`, `courses.csv`, `classes.csv`, `users.csv` and `enrollments.csv`.
Declare files that you do not have as `{absent}`. [Imports](../conformance/imports.md) has all rules.
[Lenient reading](tolerances.md) accepts packages that deviate from some of them.

## manifest.csv

The columns are `propertyName` and `value`. Each property is a row:

| Property | Value |
|---|---|
{properties}
| `source.systemName`, `source.systemCode` | name and code of the exporting system; may be missing |

`bulk` is a complete list: records that are missing from it are deleted. `delta` has only changes. `{absent}` means
that the package does not have the file, and that its records stay as they are.
"""

_FORMATS: Final[tuple[tuple[type[scalars.OneRosterField], str], ...]] = (
    (scalars.GuidField, "id, at most 255 characters, unique in the file"),
    (scalars.BooleanField, "`true` or `false`"),
    (scalars.DateField, "date, `YYYY-MM-DD`"),
    (scalars.DateOrDateTimeField, "date, `YYYY-MM-DD`"),
    (scalars.DateTimeField, "date and time, `2026-01-31T13:00:00.000Z`"),
    (scalars.NumberField, "decimal number with a point"),
    (scalars.YearField, "year in which the school year ends, four digits"),
    (composites.UserIdsField, "list of `{type:id}`"),
    (composites.TextListField, "list of texts"),
    (scalars.TextField, "text"),
)


def package_page() -> str:
    """Return the page with the properties of the manifest, and the columns of each data file."""
    versions = [(name, f"`{accepted[0]}`") for name, accepted in ACCEPTED_VERSIONS.items()]
    modes = f"one of {_words(MODES)}"
    files = [(f"{FILE_PREFIX}{name}", modes) for name in FILES]
    properties = "\n".join(f"| `{name}` | {value} |" for name, value in [*versions, *files])
    sections = [line for resource_type in FILES.values() for line in _section(resource_type)]
    return "\n".join([_HEAD.format(properties=properties, absent=ABSENT), *sections])


def _section(resource_type: ResourceType) -> Iterator[str]:
    yield f"## {resource_type.name}.csv\n"
    yield "| Column | Cell |\n|---|---|"
    for column in resource_type.columns:
        yield f"| `{column.header}` | {_cell(resource_type, column)} |"
    yield ""


def _cell(resource_type: ResourceType, column: Column) -> str:
    field = column.field
    if column.name == "sourcedId" and resource_type.shares_ids_with:
        return f"the `sourcedId` of the row of `{resource_type.shares_ids_with}.csv`, *required*"
    if field is None:
        return "not stored: leave it empty"
    if field.optional_if:
        name, words = field.optional_if
        return f"{_format(field)}, *required* unless `{name}` is {_words(words)}"
    return f"{_format(field)}{', *required*' if field.required_in_csv else ''}"


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _format(field: scalars.OneRosterField) -> str:
    match field:
        case composites.RefListField():
            return f"list of references to `{field.target}.csv`"
        case composites.RefField():
            return f"reference to `{field.target}.csv`"
        case scalars.EnumField():
            return f"one of {_words(field.vocabulary)}"
        case composites.EnumListField():
            return f"list of these words: {_words(field.vocabulary)}"
    return next(text for kind, text in _FORMATS if isinstance(field, kind))
