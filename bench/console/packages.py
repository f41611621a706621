"""Packages that imports of the console hold, reject, or apply with warnings."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from bench.district import ALL_FILES, HEADERS, District, Row, write_entry

__all__ = ["write_held_package", "write_incorrect_package", "write_outdated_package", "write_padded_package"]

DELETED_INTERVAL: Final = 6
"""The held package lacks one of this number of courses, more than the default thresholds allow."""
ROWS_WITH_PROBLEMS: Final = 1_000
TIMESTAMP: Final = "2026-11-03T05:00:00.000Z"
BLOCK_BYTES: Final = 1 << 20


def write_held_package(users: int, path: Path) -> Path:
    """Write a package whose only file, of all courses, lacks many of them. Return its path."""
    rows = (
        (first, "", "", *rest)
        for number, (first, *rest) in enumerate(District(users).courses())
        if number % DELETED_INTERVAL
    )
    return _write(path, "courses", "bulk", rows)


def write_incorrect_package(users: int, path: Path) -> Path:
    """Write a delta package in which each row has an unknown role. Return its path."""
    return _write(path, "enrollments", "delta", _enrollments(users, "role", "pupil {}"))


def write_outdated_package(users: int, path: Path) -> Path:
    """Write a delta package with dates in a form that lenient reading accepts with warnings. Return its path."""
    return _write(path, "enrollments", "delta", _enrollments(users, "beginDate", "2026/08/{:02}"))


def write_padded_package(package: Path, path: Path, size_bytes: int) -> Path:
    """Copy a package, and append a document to it until it has that size. Return the path of the copy."""
    path.write_bytes(package.read_bytes())
    missing = size_bytes - package.stat().st_size
    with zipfile.ZipFile(path, "a") as archive, archive.open("readme.txt", "w", force_zip64=True) as document:
        while missing > 0:
            document.write(bytes(min(missing, BLOCK_BYTES)))
            missing -= BLOCK_BYTES
    return path


def _enrollments(users: int, column: str, form: str) -> Iterator[Row]:
    """Yield rows in which a column has numbers from 1 to 28 in this form."""
    columns = HEADERS["enrollments"].split()
    for number, (key, *cells) in enumerate(islice(District(users).enrollments(), ROWS_WITH_PROBLEMS)):
        row = dict(zip(columns, cells, strict=True)) | {column: form.format(1 + number % 28)}
        yield key, "active", TIMESTAMP, *row.values()


def _write(path: Path, name: str, mode: str, rows: Iterable[Row]) -> Path:
    properties = [("manifest.version", "1.0"), ("oneroster.version", "1.1")]
    properties += [(f"file.{each}", mode if each == name else "absent") for each in ALL_FILES]
    with zipfile.ZipFile(path, "w") as archive:
        write_entry(archive, "manifest", ["propertyName", "value"], properties)
        write_entry(archive, name, ["sourcedId", "status", "dateLastModified", *HEADERS[name].split()], rows)
    return path
