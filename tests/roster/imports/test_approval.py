"""Approval and discard of held packages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.imports.approval import ApprovalError, approve, discard
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.roster.package.archive import ArchiveLimits
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import bodies
from tests.roster.imports.conftest import held_packages, hold_folder, hold_package, import_zip, revision
from tests.support.packages import package_with_extra_users, package_with_users


def test_folder_of_maximum_size_is_held_and_approved(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    path = package_with_users(150).folder(tmp_path / "package")
    size = sum(file.stat().st_size for file in path.iterdir())
    exact = replace(options, limits=ArchiveLimits(size=size))
    report = import_package(store, "default", path, exact)
    assert (report.state, approve(store, "default", report.run, hold_folder(options)).state) == ("held", "committed")
    less = replace(options, limits=ArchiveLimits(size=size - 1))
    assert import_package(store, "default", path, less).problems.errors[0].code == "too_large"


@pytest.mark.every_backend
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "folder"])
def test_approval_equals_import_without_thresholds(
    store: Backend, options: ImportOptions, tmp_path: Path, is_zip: bool
) -> None:
    first, second = (
        package_with_users(200).folder(tmp_path / "first"),
        package_with_extra_users(range(90), renamed=range(60)),
    )
    path = second.zip(tmp_path / "second.zip") if is_zip else second.folder(tmp_path / "second")
    import_package(store, "default", first, options)
    held_report = import_package(store, "default", path, options)
    assert held_report.state == "held"
    with open_store("memory:", COLLECTIONS) as other:
        import_package(other, "default", first, ImportOptions())
        expected = import_package(other, "default", path, ImportOptions(thresholds=DISABLED))
        digest = check_store(other).digest
    approved = approve(store, "default", held_report.run, hold_folder(options), requested_by="sam")
    assert (approved.state, approved.run, approved.package) == ("committed", held_report.run, path.name)
    assert approved.counts() == expected.counts() == held_report.counts()
    assert check_store(store).digest == digest
    assert held_packages(options) == []
    again = import_package(store, "default", path, options)
    assert (again.state, again.earlier) == ("unchanged", held_report.run)


def test_approval_uses_the_options_of_the_hold(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    package = package_with_users(150).set("enrollments", "enr-2", role="coach")
    mapped = ImportOptions(reading=ReadingOptions(map_enrollment_roles=True), folder=options.folder)
    assert import_zip(store, package, options, tmp_path).state == "refused"
    report = import_zip(store, package, mapped, tmp_path)
    assert approve(store, "default", report.run, hold_folder(options)).state == "committed"


def approval_error(store: Backend, run: str, options: ImportOptions, now: datetime | None = None) -> str:
    before, number = bodies(store), revision(store)
    with pytest.raises(ApprovalError) as raised:
        approve(store, "default", run, hold_folder(options), now=now)
    assert (bodies(store), revision(store)) == (before, number)
    return str(raised.value)


def test_modified_package_cannot_be_approved(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    [file] = held_packages(options)
    original = file.read_bytes()
    package_with_users(20).zip(file)
    assert "was modified" in approval_error(store, report.run, options)
    file.unlink()
    assert "is missing" in approval_error(store, report.run, options)
    file.write_bytes(original)
    assert approve(store, "default", report.run, hold_folder(options)).state == "committed"


def test_expired_run_can_only_be_discarded(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    assert report.expires
    expires = datetime.fromisoformat(report.expires)
    assert timedelta(days=6.99) < expires - datetime.now(UTC) <= timedelta(days=7)
    assert "expired at" in approval_error(store, report.run, options, expires)
    remove_expired(store, options.folder, expires - timedelta(seconds=1))
    assert len(held_packages(options)) == 1
    remove_expired(store, options.folder, expires)
    assert held_packages(options) == []
    assert discard(store, "default", report.run, hold_folder(options)).state == "discarded"


def test_overtaken_run_can_only_be_discarded(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    assert import_zip(store, package_with_extra_users(range(196), renamed=[3]), options, tmp_path).state == "committed"
    assert held_packages(options) == []
    assert "the roster has changed" in approval_error(store, report.run, options)
    discard(store, "default", report.run, hold_folder(options))
    assert "it is discarded" in approval_error(store, report.run, options)
    with pytest.raises(ApprovalError, match="is not held"):
        discard(store, "default", report.run, hold_folder(options))
    with pytest.raises(ApprovalError, match="no held import 'run-x'"):
        approve(store, "default", "run-x", hold_folder(options))


def test_discard_removes_only_the_package(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    before, number = bodies(store), revision(store)
    assert discard(store, "default", report.run, hold_folder(options), requested_by="sam").settled_by == "sam"
    assert (bodies(store), revision(store), held_packages(options)) == (before, number, [])
