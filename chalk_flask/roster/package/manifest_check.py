"""What the manifest of a package declares, checked against what the package holds."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

from chalk_flask.oneroster.csv import manifest
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.problems import ImportProblems, PackageRejected

__all__ = ["declared_modes"]

MOST_ROWS = 1000

AGAIN = "Export the package again."


class _Property(NamedTuple):
    value: str
    row: int


def declared_modes(package: Package, problems: ImportProblems) -> dict[str, str]:
    """The mode of each data file by name. Raises Refused, with the reasons in `problems`."""
    name = manifest.MANIFEST
    if name not in package.names():
        remedy = "Add manifest.csv, which OneRoster 1.1 demands, at the root of the package."
        problems.error("missing_manifest", "the package has no manifest.csv", remedy, file=name)
        raise PackageRejected
    properties = _properties(_rows(package, problems), problems)
    if problems.total:
        raise PackageRejected
    values = {name: found.value for name, found in properties.items()}
    for fault in manifest.manifest_errors(values, package.data_files()):
        if fault.fatal:
            row = properties[fault.property].row if fault.property in properties else None
            column = None if row is None else "value"
            problems.error(fault.code, fault.message, fault.hint, file=name, row=row, column=column, value=fault.value)
        else:
            problems.warn(fault.code, fault.message, fault.hint, file=name)
    if problems.total:
        raise PackageRejected
    return manifest.modes(values)


def _rows(package: Package, problems: ImportProblems) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with their numbers."""
    name = manifest.MANIFEST
    try:
        with package.text(name, lambda: 0) as text:
            for number, row in enumerate(csv.reader(text, strict=True), 1):
                if number > MOST_ROWS:
                    problems.error("too_many_rows", f"more than {MOST_ROWS} rows", AGAIN, file=name)
                    return
                if row or number == 1:
                    yield number, row
    except csv.Error as error:
        problems.error("bad_csv", f"the file is not CSV: {error}", AGAIN, file=name)
    except UnreadableFileError as error:
        problems.error("unreadable", f"the file cannot be read: {error}", AGAIN, file=name)


def _properties(rows: Iterator[tuple[int, list[str]]], problems: ImportProblems) -> dict[str, _Property]:
    name, properties = manifest.MANIFEST, dict[str, _Property]()
    _, header = next(rows, (1, []))
    if [cell.strip() for cell in header] != manifest.HEADER and not problems.total:
        remedy = f"Write {','.join(manifest.HEADER)} as the first line."
        problems.error("bad_header", "the header is wrong", remedy, file=name, row=1)
    for number, row in rows:
        if len(row) != 2:
            remedy = "Write propertyName,value in each row."
            problems.error("bad_row", f"the row has {len(row)} cells, not 2", remedy, file=name, row=number)
            continue
        found = _Property(row[1].strip(), number)
        if properties.setdefault(row[0].strip(), found).value != found.value:
            remedy = "Leave one of the two rows out."
            problems.error("repeated_property", f"{row[0].strip()} stands twice", remedy, file=name, row=number)
    return properties
