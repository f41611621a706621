"""`manifest.csv`: which files a package holds and how they are meant (CSV Tables 1.1, section on the manifest)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from chalk_flask.oneroster.schemas import FILES

__all__ = ["HEADER", "MANIFEST", "ManifestError", "declared_modes", "manifest_errors", "modes"]

MANIFEST = "manifest.csv"
HEADER = ["propertyName", "value"]
MODES = ("absent", "bulk", "delta")
VERSIONS = {"manifest.version": ("1.0", "1"), "oneroster.version": ("1.1",)}
OPTIONAL = ("source.systemName", "source.systemCode")


class ManifestError(NamedTuple):
    """Something wrong (or, when not `fatal`, odd) about one property."""

    code: str
    message: str
    hint: str
    property: str
    value: str | None
    fatal: bool = True


def modes(properties: Mapping[str, str]) -> dict[str, str]:
    """The mode of each data file, by name; files without a valid row are absent."""
    return {name: mode for name in FILES if (mode := properties.get(f"file.{name}", "absent")) in MODES}


def declared_modes(mode: str, present: Container[str], system: str) -> Iterator[tuple[str, str]]:
    """The rows of a manifest, in the standard's order, of a package that holds these files, all in one mode."""
    for name, (current, *_) in VERSIONS.items():
        yield name, current
    # The standard goes by the alphabet, but for classResources and courseResources after classes and courses.
    for name in sorted(FILES, key=lambda name: name.replace("Resources", "s+")):
        yield f"file.{name}", mode if name in present else "absent"
    yield OPTIONAL[0], system


def manifest_errors(properties: Mapping[str, str], present: Iterable[str]) -> Iterator[ManifestError]:
    """What is wrong with the manifest's properties, given the data files that are there."""
    there = set(present)
    yield from _version_faults(properties)
    for name in FILES:
        yield from _file_faults(name, properties.get(f"file.{name}"), name in there)
    if {"bulk", "delta"} <= set(properties.values()):
        message = "some files are bulk and some are delta"
        yield ManifestError("mixed_modes", message, "Each was read as it is declared.", "", None, False)
    known = {*VERSIONS, *OPTIONAL, *(f"file.{name}" for name in FILES)}
    for name in properties:
        if name not in known:
            yield ManifestError("unknown_property", f"unknown property {name!r}", "It was ignored.", name, None, False)


def _version_faults(properties: Mapping[str, str]) -> Iterator[ManifestError]:
    for name, accepted in VERSIONS.items():
        value = properties.get(name)
        if value not in accepted:
            what = "is missing" if value is None else "is not supported"
            yield ManifestError(
                "bad_version", f"{name} {what}", f"Export a package whose {name} is {accepted[0]}.", name, value
            )


def _file_faults(name: str, mode: str | None, present: bool) -> Iterator[ManifestError]:
    label = f"file.{name}"
    if mode is None:
        yield ManifestError(
            "missing_property", f"{label} is missing", f"Add {label} with absent, bulk or delta.", label, None
        )
    elif mode not in MODES:
        yield ManifestError(
            "bad_mode", f"{label} has an unknown mode", f"Write one of: {', '.join(MODES)}.", label, mode
        )
    if mode == "absent" and present:
        remedy = f"Declare {label} as bulk or delta, or leave the file out."
        yield ManifestError("undeclared_file", f"{name}.csv is in the package but declared absent", remedy, label, mode)
    if mode in ("bulk", "delta") and not present:
        remedy = f"Add {name}.csv or declare {label} as absent."
        yield ManifestError("missing_file", f"{name}.csv is declared but not in the package", remedy, label, mode)
