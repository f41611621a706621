"""Properties of `manifest.csv`: versions, and the mode of each data file (CSV Tables 1.1, section on the manifest)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from chalk_flask.oneroster.schemas import FILES

__all__ = [
    "ABSENT",
    "FILE_PREFIX",
    "HEADER",
    "MANIFEST",
    "MODES",
    "ManifestProblem",
    "file_modes",
    "manifest_problems",
    "manifest_rows",
]

MANIFEST = "manifest.csv"
HEADER = ["propertyName", "value"]
FILE_PREFIX = "file."
"""Prefix of the properties that declare the mode of a file."""
ABSENT = "absent"
MODES = (ABSENT, "bulk", "delta")
ACCEPTED_VERSIONS = {"manifest.version": ("1.0", "1"), "oneroster.version": ("1.1",)}
"""Accepted values of each version property; the first one is written."""
_VERSION = re.compile(r"v?[0-9]{1,3}(?:\.[0-9]+)+|v?[0-9]", re.ASCII)
OPTIONAL_PROPERTIES = ("source.systemName", "source.systemCode")


class ManifestProblem(NamedTuple):
    """Error or warning about a property."""

    code: str
    message: str
    hint: str
    property: str
    value: str | None = None
    is_warning: bool = False


def file_modes(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the mode of each data file, by name. A file without a property is absent."""
    return {name: mode for name in FILES if (mode := properties.get(f"{FILE_PREFIX}{name}", "absent")) in MODES}


def manifest_rows(mode: str, present: Container[str], system: str) -> Iterator[tuple[str, str]]:
    """Yield the properties of a package that contains the data files in `present`, all in the same mode.

    The order is that of the standard. `system` is the name of the source system.
    """
    for name, (current_version, *_) in ACCEPTED_VERSIONS.items():
        yield name, current_version
    # The standard sorts by name, except that classResources follows classes and courseResources follows courses.
    for name in sorted(FILES, key=lambda name: name.replace("Resources", "s+")):
        yield f"{FILE_PREFIX}{name}", mode if name in present else "absent"
    yield OPTIONAL_PROPERTIES[0], system


def manifest_problems(properties: Mapping[str, str], data_files: Container[str]) -> Iterator[ManifestProblem]:
    """Yield the errors and warnings about the properties. `data_files` are the names of the files in the package."""
    yield from _version_problems(properties)
    for name in FILES:
        yield from _mode_problems(name, properties.get(f"{FILE_PREFIX}{name}"), is_present=name in data_files)
    if {"bulk", "delta"} <= set(properties.values()):
        message = "some files are bulk and some are delta"
        yield ManifestProblem("mixed_modes", message, "Each file was read in its own mode.", "", is_warning=True)
    known_names = {*ACCEPTED_VERSIONS, *OPTIONAL_PROPERTIES, *(f"{FILE_PREFIX}{name}" for name in FILES)}
    for name in properties:
        if name not in known_names:
            message = f"unknown property {name!r}"
            yield ManifestProblem("unknown_property", message, "It was ignored.", name, is_warning=True)


def _version_problems(properties: Mapping[str, str]) -> Iterator[ManifestProblem]:
    for name, accepted in ACCEPTED_VERSIONS.items():
        value = properties.get(name)
        if value not in accepted:
            message = f"{name} is missing" if value is None else f"{name} is not supported"
            is_version = value is None or _VERSION.fullmatch(value)
            hint = f"Export a package whose {name} is {accepted[0]}."
            hint = hint if is_version else f"Write {accepted[0]}: a spreadsheet may have changed it."
            yield ManifestProblem("bad_version", message, hint, name, value)


def _mode_problems(name: str, mode: str | None, *, is_present: bool) -> Iterator[ManifestProblem]:
    label = f"{FILE_PREFIX}{name}"
    if mode is None:
        hint = f"Add {label} with absent, bulk or delta."
        yield ManifestProblem("missing_property", f"{label} is missing", hint, label)
    elif mode not in MODES:
        words = [word for word in MODES if word == mode.lower()]
        hint = f"Write {words[0]}: letter case counts." if words else f"Use one of: {', '.join(MODES)}."
        yield ManifestProblem("bad_mode", f"{label} has an unknown mode", hint, label, mode)
    if mode == "absent" and is_present:
        hint = f"Declare {label} as bulk or delta, or remove the file."
        yield ManifestProblem("undeclared_file", f"{name}.csv is in the package but declared absent", hint, label, mode)
    if mode in ("bulk", "delta") and not is_present:
        hint = f"Add {name}.csv or declare {label} as absent."
        yield ManifestProblem("missing_file", f"{name}.csv is declared but not in the package", hint, label, mode)
