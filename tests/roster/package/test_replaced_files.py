"""Packages whose files are replaced by links while they are read: no line of another file gets into the report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.imports.run_files import copy_package
from chalk_flask.roster.package.archive import ArchiveLimits, open_package
from chalk_flask.roster.package.checksum import package_checksum
from chalk_flask.roster.package.layout import find_subfolder
from chalk_flask.roster.package.problems import ImportProblems, PackageRejectedError
from tests.roster.package.rejections import FilledStore, codes_by_file
from tests.support.packages import PackageBuilder

SECRET = "cell-of-another-file"


def large_package(folder: Path) -> Path:
    """Return a folder whose first file is so long that the progress is reported before the other files are read."""
    package = PackageBuilder()
    row = package.rows["orgs"][0]
    package.rows["orgs"] += [{**row, "sourcedId": f"more-{n:05}", "parentSourcedId": ""} for n in range(2100)]
    return package.folder(folder)


def secret_file(path: Path, users: Path) -> Path:
    """Write a file like users.csv with an invalid cell, which a report would quote."""
    text = users.read_text()
    assert "student" in text
    path.write_text(text.replace("student", SECRET))
    return path


def replace_by_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(f"{path.name}.moved"))
    path.symlink_to(target)


def import_and_replace(store: Backend, package: Path, replace: Callable[[], None]) -> str:
    """Import a package, call `replace` once while its first file is read, and return the report as text."""
    pending = [replace]

    def on_progress(file: str, row: int, total: int | None) -> None:
        if pending:
            pending.pop()()

    report = import_package(store, "default", package, ImportOptions(), on_progress=on_progress)
    assert not pending
    assert report.state == "refused"
    return json.dumps(report.to_dict()) + report.to_text()


@pytest.mark.reading("I-13")
def test_file_replaced_by_a_link_is_not_followed(store: Backend, tmp_path: Path) -> None:
    package = large_package(tmp_path / "package")
    secret = secret_file(tmp_path / "secret.csv", package / "users.csv")
    report = import_and_replace(store, package, lambda: replace_by_link(package / "users.csv", secret))
    assert SECRET not in report
    assert "the package changed while it was read" in report


@pytest.mark.reading("I-13")
def test_folder_replaced_by_a_link_is_not_followed(store: Backend, tmp_path: Path) -> None:
    package, other = large_package(tmp_path / "package"), PackageBuilder().folder(tmp_path / "other")
    secret_file(other / "users.csv", package / "users.csv")
    report = import_and_replace(store, package, lambda: replace_by_link(package, other))
    assert SECRET not in report
    assert "the package changed while it was read" in report or "cannot be read to its end" in report


def test_file_replaced_by_a_larger_file_is_not_read(store: Backend, tmp_path: Path) -> None:
    package = large_package(tmp_path / "package")

    def replace() -> None:
        (package / "users.csv").rename(tmp_path / "moved.csv")
        secret_file(package / "users.csv", tmp_path / "moved.csv")

    report = import_and_replace(store, package, replace)
    assert SECRET not in report


@pytest.mark.reading("I-13")
@pytest.mark.parametrize("target", ["package", "package.zip", "package/export"])
def test_link_to_a_package_is_followed_if_a_trusted_user_made_it(
    filled: FilledStore, store: Backend, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = PackageBuilder()
    (builder.zip if target.endswith(".zip") else builder.folder)(tmp_path / target)
    link = tmp_path / "current"
    link.symlink_to(target.partition("/")[0])
    assert import_package(store, "default", link, ImportOptions()).state == "committed"
    if os.geteuid() == 0:
        os.chown(link, 65534, 65534, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    report = filled.reject(link)
    assert codes_by_file(report) == {("unreadable", None)}
    assert "it is a link" in report["errors"][0]["message"]


def test_held_copy_of_a_package_follows_no_link(tmp_path: Path) -> None:
    package = PackageBuilder().folder(tmp_path / "package")
    replace_by_link(package, PackageBuilder().folder(tmp_path / "other"))
    with pytest.raises(OSError, match="symbolic link"), copy_package(package, tmp_path, "run-1"):
        pass


@pytest.mark.parametrize("replaced", ["package", "package/export"])
def test_link_in_place_of_a_subfolder_or_its_parent_is_not_followed(tmp_path: Path, replaced: str) -> None:
    package = tmp_path / "package"
    for folder in (package, tmp_path / "other"):
        PackageBuilder().folder(folder / "export")
    assert find_subfolder(package) == "export"
    assert package_checksum(package, 1 << 20, "export")
    replace_by_link(tmp_path / replaced, tmp_path / replaced.replace("package", "other"))
    assert find_subfolder(package) != "export"
    assert package_checksum(package, 1 << 20, "export") is None
    with pytest.raises(OSError, match="symbolic link"), copy_package(package, tmp_path, "run-1", "export"):
        pass
    problems = ImportProblems()
    with pytest.raises(PackageRejectedError, match="it is a link"):
        open_package(package, ArchiveLimits(), problems, "export").__enter__()
