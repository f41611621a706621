"""Sample packages: the sample district with changes that are applied, held or rejected."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeAlias

__all__ = ["SAMPLE_PACKAGES", "SamplePackage", "package_bytes"]

Rows: TypeAlias = list[dict[str, str]]
"""Rows of a CSV file by column."""
Files: TypeAlias = dict[str, Rows]
"""Rows of a package by the names of its files, without `.csv`."""

SMALL_SCHOOL = "org-south"
"""School of the sample district whose enrollments the held package lacks."""


@dataclass(frozen=True, slots=True)
class SamplePackage:
    """Package to try an import with. `change` changes the rows of the sample district in place."""

    name: str
    title: str
    text: str
    change: Callable[[Files], None]


def package_bytes(package: SamplePackage) -> bytes:
    """Return the ZIP file of a sample package. Each call returns the same bytes."""
    content = _sample_district()
    package.change(content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in content.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), _to_csv(rows), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _change_few(content: Files) -> None:
    """Move two classes to another room, and end one enrollment."""
    for row in content["classes"][:2]:
        row["location"] = "Room 305"
    del content["enrollments"][-1]


def _leave_out_enrollments(content: Files) -> None:
    """Leave out the enrollments of one school."""
    content["enrollments"] = [row for row in content["enrollments"] if row["schoolSourcedId"] != SMALL_SCHOOL]


def _make_mistakes(content: Files) -> None:
    """Give a person an unknown role, a class no title, and an enrollment a person who does not exist."""
    content["users"][0]["role"] = "pupil"
    content["classes"][0]["title"] = ""
    content["enrollments"][0]["userSourcedId"] = "user-unknown"


SAMPLE_PACKAGES = (
    SamplePackage(
        "few-changes",
        "A few changes",
        "Two classes move to another room, and one enrollment ends. The import is applied at once.",
        _change_few,
    ),
    SamplePackage(
        "missing-enrollments",
        "An incomplete export",
        "The enrollments of one school are missing. The import is held until you approve or discard it.",
        _leave_out_enrollments,
    ),
    SamplePackage(
        "mistakes",
        "An export with mistakes",
        "Three rows are invalid. The import is rejected, and the report says what to correct.",
        _make_mistakes,
    ),
)
"""Sample packages in the order in which to try them."""


def _sample_district() -> Files:
    folder = files("chalk_flask") / "demo"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".csv")), key=lambda path: path.name)
    texts = {path.name.removesuffix(".csv"): path.read_text(encoding="utf-8") for path in paths}
    return {name: list(csv.DictReader(io.StringIO(text, newline=""))) for name, text in texts.items()}


def _to_csv(rows: Rows) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
