"""Fixtures and helpers for tests of imports that can be held."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from tests.support.packages import PackageBuilder, package_with_users


@pytest.fixture
def options(tmp_path: Path) -> ImportOptions:
    """Options with a folder for held packages."""
    return ImportOptions(folder=tmp_path / "imports")


def import_zip(store: Backend, package: PackageBuilder, options: ImportOptions, folder: Path) -> ImportReport:
    """Import a package as the user pat; `folder` is for its ZIP file."""
    return import_package(store, "default", package.zip(folder / "package.zip"), options, requested_by="pat")


def hold_package(store: Backend, options: ImportOptions, folder: Path) -> ImportReport:
    """Import 200 users, then 150 of them: the second package is held."""
    assert import_zip(store, package_with_users(200), options, folder).state == "committed"
    report = import_zip(store, package_with_users(150), options, folder)
    assert report.state == "held", report.to_text()
    return report


def hold_folder(options: ImportOptions) -> Path:
    """Return the folder for held packages."""
    assert options.folder
    return options.folder


def held_packages(options: ImportOptions) -> list[Path]:
    """Return the paths of all held packages."""
    return sorted(hold_folder(options).rglob("*.zip"))


def revision(store: Backend) -> int:
    """Return the revision of the roster."""
    with store.read("default") as snapshot:
        return snapshot.revision
