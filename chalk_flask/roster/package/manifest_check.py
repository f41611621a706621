"""Checks of `manifest.csv` against the files of a package (docs/conformance, I-12 and I-21)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from chalk_flask.oneroster.csv.file_format import (
    COMMA,
    DELIMITER_NAMES,
    FormatProblem,
    find_delimiter,
    find_problem,
    one_cell_problem,
)
from chalk_flask.oneroster.csv.file_names import naming_hint, other_format
from chalk_flask.oneroster.csv.manifest import (
    ABSENT,
    FILE_PREFIX,
    HEADER,
    MANIFEST,
    MODES,
    ManifestProblem,
    file_modes,
    manifest_problems,
)
from chalk_flask.oneroster.csv.row_repair import decode_windows_1252
from chalk_flask.oneroster.csv.tolerances import (
    DELIMITER,
    FILE_NAME_CASE,
    HEADER_CASE,
    MISSING_MANIFEST,
    WINDOWS_1252,
    WORD,
)
from chalk_flask.oneroster.csv.windows_1252 import has_utf8_letters
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.archive import Package, UnreadableFileError
from chalk_flask.roster.package.data_file import delimiter_problem, tolerance_warning
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, PackageRejectedError, count_of

__all__ = ["declared_modes"]

MAX_ROWS = 1000
MAX_ERRORS_PER_CODE = 3

EXPORT_HINT = "Export the package again."

_SUMMARIES = {
    "missing_property": (
        "the modes of {} files are missing",
        "Add file.NAME and so on, each with absent, bulk or delta.",
    ),
    "bad_mode": ("the modes of {} files are unknown", ""),
    "undeclared_file": (
        "{} files are declared absent, but in the package",
        "Declare each file as bulk or delta, or remove it.",
    ),
    "missing_file": ("{} files are declared, but not in the package", "Add each file or declare it as absent."),
}
"""Message and hint for many files with one problem; without a hint, that of the first. NAME stands for the first."""

Row: TypeAlias = tuple[int, list[str]]
"""Number and cells of a row."""


class _Property(NamedTuple):
    value: str
    row: int


def declared_modes(package: Package, problems: ImportProblems, *, lenient: bool = False) -> dict[str, str]:
    """Return the mode of each data file, by name.

    Adds errors and warnings to `problems`. With `lenient` the deviations of TOLERANCES are accepted. Raises
    PackageRejectedError if there is an error.
    """
    former_names = package.use_standard_case([MANIFEST]) if lenient else []
    if MANIFEST not in package.names():
        return _modes_without_manifest(package, problems, lenient=lenient)
    head = package.read_head(MANIFEST)
    delimiter = find_delimiter(head, HEADER)
    if error := find_problem(head) or delimiter_problem(delimiter, lenient=lenient):
        raise PackageRejectedError(_error(*error))
    rows, read_errors = _read_rows(package, delimiter)
    rows = _without_unnamed_columns(rows, problems)
    if lenient:
        rows = list(_with_tolerance(rows, delimiter, problems))
    if rows or not read_errors:
        problems.extend(_once_per_code(_row_errors(rows)))
    problems.extend(read_errors)
    problems.raise_if_errors()
    properties = _properties(rows)
    if lenient:
        properties = _with_standard_modes(properties, problems)
        present = [name for name in FILES if (entry := properties.get(FILE_PREFIX + name)) and entry.value != ABSENT]
        former_names += package.use_standard_case(_file_names(present))
        problems.extend(_case_warnings(former_names))
    problems.extend(_once_per_code(_property_problems(properties, package)))
    problems.raise_if_errors()
    modes = file_modes({name: entry.value for name, entry in properties.items()})
    problems.extend(_misnamed_warnings(package, modes))
    return modes


def _misnamed_warnings(package: Package, modes: Mapping[str, str]) -> Iterator[ImportProblem]:
    """Yield a warning for each file with a wrong name that the manifest declares as absent."""
    for name, actual in package.misnamed_files().items():
        if modes.get(name.removesuffix(".csv"), "absent") == "absent":
            hint = f"{naming_hint(actual, name).removesuffix('.')} to import it."
            yield ImportProblem("unknown_file", "not a file of OneRoster 1.1", hint, file=actual, is_warning=True)


def _with_standard_modes(properties: dict[str, _Property], problems: ImportProblems) -> dict[str, _Property]:
    """Return the properties with modes in the letter case of the standard, and add a warning if there were others."""
    lower_case = {name: entry._replace(value=entry.value.lower()) for name, entry in properties.items()}
    other = [name for name, entry in lower_case.items() if entry.value in MODES and entry != properties[name]]
    if other:
        message = f"{count_of(len(other), 'row')}: {WORD.deviation}"
        problems.add(tolerance_warning(WORD, message, MANIFEST))
    return properties | {name: lower_case[name] for name in other}


def _case_warnings(former_names: list[str]) -> Iterator[ImportProblem]:
    if former_names:
        message = f"{count_of(len(former_names), 'file')}: {', '.join(former_names)}"
        yield tolerance_warning(FILE_NAME_CASE, message, None)


def _modes_without_manifest(package: Package, problems: ImportProblems, *, lenient: bool) -> dict[str, str]:
    if lenient:
        problems.extend(_case_warnings(package.use_standard_case(_file_names(FILES))))
    data_files = package.data_files()
    if label := other_format(package.names()):
        hint = "Export OneRoster 1.1 as CSV instead."
        problems.warnings.clear()  # each file of another format is unknown
        raise PackageRejectedError(ImportProblem("other_format", f"the files are those of {label}", hint))
    if not (lenient and data_files):
        misnamed = package.misnamed_files()
        lenient_hint = ", or use lenient reading (--lenient)" if data_files else ""
        hint = f"Add manifest.csv, which OneRoster 1.1 requires{lenient_hint}."
        hint = _naming_hints(misnamed, (MANIFEST, *_file_names(FILES))) if MANIFEST in misnamed else hint
        raise PackageRejectedError(_error("missing_manifest", "the package has no manifest.csv", hint))
    problems.extend(_misnamed_warnings(package, {}))
    message = f"manifest.csv is missing; {count_of(len(data_files), 'file')} in the package"
    problems.add(tolerance_warning(MISSING_MANIFEST, message, MANIFEST))
    return file_modes({f"{FILE_PREFIX}{name}": "bulk" for name in data_files})


def _with_tolerance(rows: list[Row], delimiter: str, problems: ImportProblems) -> Iterator[Row]:
    """Yield the rows decoded and with the header of the standard, and add a warning for each deviation."""
    if delimiter != COMMA:
        message = f"the file is separated by {DELIMITER_NAMES[delimiter]}"
        problems.add(tolerance_warning(DELIMITER, message, MANIFEST))
    is_utf8 = has_utf8_letters(cell for _, cells in rows for cell in cells)
    decoded = [(number, decode_windows_1252(cells, lambda: is_utf8)) for number, cells in rows]
    if count := sum(new is not old for (_, new), (_, old) in zip(decoded, rows, strict=True)):
        problems.add(tolerance_warning(WINDOWS_1252, f"{count_of(count, 'row')}", MANIFEST))
    for number, cells in decoded:
        is_header_in_other_case = number == 1 and [cell.strip() for cell in cells] != HEADER
        if is_header_in_other_case and [cell.strip().casefold() for cell in cells] == [*map(str.casefold, HEADER)]:
            problems.add(tolerance_warning(HEADER_CASE, f"the header is {','.join(cells)}", MANIFEST))
            yield number, HEADER
        else:
            yield number, cells


def _read_rows(package: Package, delimiter: str) -> tuple[list[Row], list[ImportProblem]]:
    """Return the rows that are not blank and, if the file cannot be read to its end, the reason."""
    rows: list[Row] = []
    try:
        with package.open_text(MANIFEST, lambda: 0) as text:
            for number, cells in enumerate(csv.reader(text, delimiter=delimiter, strict=True), 1):
                if number > MAX_ROWS:
                    return rows, [_error("too_many_rows", f"more than {MAX_ROWS} rows", EXPORT_HINT)]
                if any(map(str.strip, cells)) or number == 1:
                    rows.append((number, cells))
    except csv.Error as error:
        return rows, [_error("bad_csv", f"the file is not CSV: {error}", EXPORT_HINT)]
    except UnreadableFileError as error:
        return rows, [_error("unreadable", f"the file cannot be read: {error}", EXPORT_HINT)]
    return rows, []


def _without_unnamed_columns(rows: list[Row], problems: ImportProblems) -> list[Row]:
    """Return the rows without the empty cells of columns that have no name, and add a warning if there are any."""
    header = rows[0][1] if rows else []
    surplus = len(header) - len(HEADER)
    if surplus <= 0 or any(map(str.strip, header[len(HEADER) :])):
        return rows
    message = f"{count_of(surplus, 'column')} at the end of the header without a name"
    problems.add(ImportProblem("unnamed_column", message, "They were ignored. Remove them.", MANIFEST, is_warning=True))
    return [(number, _without_empty_surplus(cells)) for number, cells in rows]


def _without_empty_surplus(cells: list[str]) -> list[str]:
    return cells if any(map(str.strip, cells[len(HEADER) :])) else cells[: len(HEADER)]


def _row_errors(rows: list[Row]) -> Iterator[ImportProblem]:
    header = rows[0][1] if rows else []
    if [cell.strip() for cell in header] != HEADER:
        hint = f"Write {','.join(HEADER)} as the first line."
        error = one_cell_problem(header, HEADER) or FormatProblem("bad_header", "the header is invalid", hint)
        yield _error(*error, row=1)
        return  # the rows are those of another file, whose cells may be personal data
    values: dict[str, str] = {}
    for number, cells in rows[1:]:
        if len(cells) != 2:
            hint = "Write propertyName,value in each row."
            yield _error("bad_row", f"the row has {len(cells)} cells, not 2", hint, row=number)
            continue
        name, value = cells[0].strip(), cells[1].strip()
        if values.setdefault(name, value) != value:
            hint = "Remove one of the two rows."
            yield _error("repeated_property", f"{name!r} occurs twice, with different values", hint, row=number)


def _properties(rows: list[Row]) -> dict[str, _Property]:
    properties: dict[str, _Property] = {}
    for number, cells in rows[1:]:
        properties.setdefault(cells[0].strip(), _Property(cells[1].strip(), number))
    return properties


def _property_problems(properties: dict[str, _Property], package: Package) -> Iterator[ImportProblem]:
    values = {name: entry.value for name, entry in properties.items()}
    errors: dict[str, list[ManifestProblem]] = {}
    for problem in manifest_problems(values, package.data_files()):
        if problem.is_warning:
            yield ImportProblem(problem.code, problem.message, problem.hint, file=MANIFEST, is_warning=True)
        else:
            errors.setdefault(problem.code, []).append(problem)
    misnamed = package.misnamed_files()
    for code, group in errors.items():
        if len(group) > MAX_ERRORS_PER_CODE and code in _SUMMARIES:
            yield _summary(group, _property_error(group[0], properties, misnamed), misnamed)
        else:
            yield from (_property_error(error, properties, misnamed) for error in group)


def _property_error(
    error: ManifestProblem, properties: Mapping[str, _Property], misnamed: Mapping[str, str]
) -> ImportProblem:
    row = properties[error.property].row if error.property in properties else None
    column = None if row is None else "value"
    name = f"{error.property.removeprefix(FILE_PREFIX)}.csv"
    is_misnamed = error.code == "missing_file" and name in misnamed
    hint = naming_hint(misnamed[name], name) if is_misnamed else error.hint
    return _error(error.code, error.message, hint, row=row, column=column, value=error.value)


def _summary(group: list[ManifestProblem], first: ImportProblem, misnamed: Mapping[str, str]) -> ImportProblem:
    """Return one error for many files with the same problem, at the place of the first."""
    names = [error.property.removeprefix(FILE_PREFIX) for error in group]
    message, hint = _SUMMARIES[first.code]
    if first.code == "missing_file" and (hints := _naming_hints(misnamed, _file_names(names))):
        is_complete = misnamed.keys() >= set(_file_names(names))
        hint = hints if is_complete else f"{hints} {hint.replace('each file', 'each other file')}"
    message = f"{message.format(len(names))}: {', '.join(names)}"
    return replace(first, message=message, hint=hint.replace("NAME", names[0]) or first.hint)


def _file_names(names: Iterable[str]) -> list[str]:
    return [f"{name}.csv" for name in names]


def _naming_hints(misnamed: Mapping[str, str], names: Iterable[str]) -> str:
    """Return how to name each of these files that has another name."""
    return " ".join(naming_hint(misnamed[name], name) for name in names if name in misnamed)


def _once_per_code(errors: Iterable[ImportProblem]) -> Iterator[ImportProblem]:
    """Yield the errors; join the messages of more than `MAX_ERRORS_PER_CODE` with one code."""
    groups: dict[str, list[ImportProblem]] = {}
    for error in errors:
        groups.setdefault(error.code, []).append(error)
    for first, *others in groups.values():
        if len(others) < MAX_ERRORS_PER_CODE:
            yield from (first, *others)
        else:
            messages = list(dict.fromkeys(error.message for error in (first, *others)))
            suffix = f" ({len(others) + 1} rows)" if len(messages) == 1 else ""
            yield replace(first, message="; ".join(messages) + suffix)


def _error(
    code: str, message: str, hint: str, row: int | None = None, column: str | None = None, value: str | None = None
) -> ImportProblem:
    return ImportProblem(code, message, hint, MANIFEST, row, column, value)
