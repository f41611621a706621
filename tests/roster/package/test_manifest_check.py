"""Rejection of a package because of its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.roster.package.rejections import FilledStore, codes_by_file, problem_places
from tests.support.packages import PackageBuilder

Change = Callable[[PackageBuilder], object]


def test_missing_manifest_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().folder(tmp_path / "package")
    (path / "manifest.csv").unlink()
    assert codes_by_file(filled.reject(path)) == {("missing_manifest", "manifest.csv")}


PROPERTIES: dict[str, tuple[Change, str, int | None, str | None]] = {
    "a missing file": (lambda package: package.rows.pop("users"), "missing_file", 11, "bulk"),
    "another mode": (lambda package: package.properties.update({"file.users": "Bulk"}), "bad_mode", 11, "Bulk"),
    "no version": (lambda package: package.properties.pop("oneroster.version"), "bad_version", None, None),
}


@pytest.mark.reading("I-12", "I-21")
@pytest.mark.parametrize("case", PROPERTIES)
def test_invalid_property_is_reported_with_its_row(filled: FilledStore, tmp_path: Path, case: str) -> None:
    change, code, row, value = PROPERTIES[case]
    package = PackageBuilder()
    change(package)
    column = None if row is None else "value"
    for path in (package.folder(tmp_path / "package"), package.zip(tmp_path / "package.zip")):
        assert problem_places(filled.reject(path)) == [(code, "manifest.csv", row, column, value)]


CONTENTS: dict[str, tuple[bytes, str, int | None]] = {
    "nothing": (b"", "bad_header", 1),
    "another header": (b"name,value\n", "bad_header", 1),
    "another separator": (b"propertyName;value\n", "wrong_delimiter", None),
    "a blank line first": (b"\npropertyName,value\n", "bad_header", 1),
    "a row of three cells": (b"propertyName,value\n\nmanifest.version,1.0,x\n", "bad_row", 3),
    "an open quote": (b'propertyName,value\n"manifest', "bad_csv", None),
    "UTF-16": ("propertyName,value\n".encode("utf-16"), "bad_text", None),
    "two modes of a file": (b"propertyName,value\nfile.users,bulk\nfile.users,absent\n", "repeated_property", 3),
    "too many rows": (b"propertyName,value\n" + b"x,y\n" * 2000, "too_many_rows", None),
    "a row without end": (b"," * (17 << 20), "bad_csv", None),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_unreadable_manifest_is_rejected(filled: FilledStore, tmp_path: Path, case: str) -> None:
    content, code, row = CONTENTS[case]
    package = PackageBuilder()
    package.raw["manifest.csv"] = content
    report = filled.reject(package.folder(tmp_path / "package"))
    assert (code, "manifest.csv", row) in {place[:3] for place in problem_places(report)}


def test_errors_before_an_open_quote_are_reported_too(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["manifest.csv"] = b'propertyName,value\na,b,c\n"manifest'
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert [place[0] for place in places] == ["bad_row", "bad_csv"]


@pytest.mark.reading("I-28")
def test_bulk_package_without_rows_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    for rows in package.rows.values():
        rows.clear()
    assert codes_by_file(filled.reject(package.zip(tmp_path / "package.zip"))) == {("no_rows", "manifest.csv")}
