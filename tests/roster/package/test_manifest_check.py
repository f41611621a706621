"""Rejection of a package because of its manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.roster.package.problems import without_values
from tests.roster.conftest import UNLIMITED, Load
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


def test_lenient_reading_decodes_no_manifest_with_letters_in_utf8(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    manifest = package.files()["manifest.csv"]
    for letters, count in ((b"", 1), ("Zoë".encode(), 0)):
        package.raw["manifest.csv"] = manifest + b"source.systemName,Zo\xeb\r\nsource.systemCode,%s\r\n" % letters
        options = replace(UNLIMITED, reading=ReadingOptions(lenient=True))
        report = load(store, package, "checked", options, dry_run=True)
        codes = [warning.code for warning in report.problems.warnings]
        assert codes.count("tolerated_encoding") == count


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


def test_unnamed_columns_at_the_end_are_ignored_with_one_warning(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.raw["manifest.csv"] = package.files()["manifest.csv"].replace(b"\r\n", b",, \r\n")
    report = load(store, package)
    assert report.state == "committed", report.to_text()
    assert [warning.to_text() for warning in report.problems.warnings] == [
        "manifest.csv: 2 columns at the end of the header without a name. They were ignored. Remove them."
    ]


def test_rows_below_an_invalid_header_are_not_reported(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["manifest.csv"] = b"familyName,givenName\nBarr,Ida\nBarr,Max\na,b,c\n"
    report = filled.reject(package.folder(tmp_path / "package"))
    assert problem_places(report) == [("bad_header", "manifest.csv", 1, None, None)]


def test_stored_message_about_a_repeated_property_has_no_cell(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["manifest.csv"] = b"propertyName,value\nBarr,Ida\nBarr,Max\n"
    [error] = filled.reject(package.folder(tmp_path / "package"))["errors"]
    assert "Barr" in error["message"]
    assert "Barr" not in str(without_values(error))


def test_many_missing_properties_are_one_error_with_all_names(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    for name in FILES:
        del package.properties[f"file.{name}"]
    [error] = filled.reject(package.folder(tmp_path / "package"))["errors"]
    assert error["message"] == f"the modes of 13 files are missing: {', '.join(FILES)}"
    assert error["remedy"] == "Add file.orgs and so on, each with absent, bulk or delta."


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_all_misnamed_files_are_named_at_once(filled: FilledStore, tmp_path: Path, kind: str) -> None:
    package = PackageBuilder()
    files = {name.upper(): content for name, content in package.files().items() if name != "manifest.csv"}
    renaming = [f"Rename {name.upper()}.CSV to {name}.csv." for name in FILES]
    package.rows.clear()
    package.raw.update(files)
    path = package.zip(tmp_path / "package.zip") if kind == "zip" else package.folder(tmp_path / "package")
    [error] = filled.reject(path)["errors"]
    assert error["message"] == f"13 files are declared, but not in the package: {', '.join(FILES)}"
    assert error["remedy"] == " ".join(renaming)
    package.raw["MANIFEST.CSV"] = package.files()["manifest.csv"]
    path = package.folder(tmp_path / "without")
    (path / "manifest.csv").unlink()
    [error] = filled.reject(path)["errors"]
    assert error["code"] == "missing_manifest"
    assert error["remedy"] == " ".join(["Rename MANIFEST.CSV to manifest.csv.", *renaming])
