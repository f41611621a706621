"""Change list of a held package: its content, its pages and its deletion."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest

from backends import Backend
from chalk_flask.roster.diff import change_list
from chalk_flask.roster.diff.change_list import ChangeList, RecordChange
from chalk_flask.roster.imports import ImportOptions, ImportReport
from chalk_flask.roster.imports.approval import approve, discard
from chalk_flask.roster.imports.run_files import change_list_path
from tests.roster.imports.conftest import hold_folder, import_zip
from tests.support.packages import PackageBuilder, package_with_extra_users


@pytest.fixture
def options(tmp_path: Path) -> ImportOptions:
    """Options with a folder for held packages."""
    return ImportOptions(folder=tmp_path / "imports")


def hold(store: Backend, options: ImportOptions, tmp_path: Path, package: PackageBuilder | None = None) -> ImportReport:
    """Import 40 users; then hold a package without 20 of them, with a renamed and a new one."""
    import_zip(store, package_with_extra_users(range(100, 140)), options, tmp_path)
    held = package or package_with_extra_users([*range(120, 140), 150], renamed=[121])
    report = import_zip(store, held, options, tmp_path)
    assert report.state == "held", report.to_text()
    return report


def open_list(options: ImportOptions, report: ImportReport) -> ChangeList:
    found = ChangeList.open(change_list_path(hold_folder(options), "default", report.run))
    assert found is not None
    return found


def name_of(change: RecordChange) -> str:
    assert change.body is not None
    name: str = orjson.loads(change.body)["givenName"]
    return name


def test_list_has_each_change_of_the_held_package(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold(store, options, tmp_path)
    changes = open_list(options, report)
    assert changes.counts == {"users": {"deleted": 20, "updated": 1, "created": 1}}
    assert {name: file.counts for name, file in report.files.items()}["users"]["deleted"] == 20
    deleted = changes.page("users", "deleted", 0, 100)
    assert deleted == [RecordChange(f"u-{number}", None) for number in range(100, 120)]
    [updated], [created] = changes.page("users", "updated", 0, 5), changes.page("users", "created", 0, 5)
    assert (updated.key, name_of(updated), created.key, name_of(created)) == ("u-121", "Other", "u-150", "Same")
    assert b'"href":"\\/orgs' in (updated.body or b""), "the serializer needs the stored form"


def test_list_is_read_in_pages(
    store: Backend, options: ImportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_list, "BLOCK_SIZE", 3)
    changes = open_list(options, hold(store, options, tmp_path))
    whole = changes.page("users", "deleted", 0, 20)
    assert len(whole) == 20
    for offset in range(21):
        assert changes.page("users", "deleted", offset, 4) == whole[offset : offset + 4]
    assert changes.page("users", "deleted", 1000, 4) == changes.page("orgs", "deleted", 0, 4) == []


def test_list_of_many_changes_is_bounded(
    store: Backend, options: ImportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_list, "MAX_LISTED_CHANGES", 7)
    report = hold(store, options, tmp_path)
    assert open_list(options, report).counts["users"] == {"deleted": 7, "updated": 1, "created": 1}
    assert report.files["users"].counts["deleted"] == 20


def test_demographics_are_listed_without_values(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    package = package_with_extra_users(range(120, 140)).set("demographics", "pupil-1", sex="male")
    [change] = open_list(options, hold(store, options, tmp_path, package)).page("demographics", "updated", 0, 5)
    assert change == RecordChange("pupil-1", None)


def test_list_is_deleted_with_the_package(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    folder = hold_folder(options)
    for decide in (discard, approve):
        report = hold(store, options, tmp_path)
        path = change_list_path(folder, "default", report.run)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        decide(store, "default", report.run, folder)
        assert not path.exists()
        assert list(folder.rglob("*.changes*")) == []
        assert ChangeList.open(path) is None


def test_damaged_list_is_no_list(options: ImportOptions, tmp_path: Path, store: Backend) -> None:
    report = hold(store, options, tmp_path)
    path = change_list_path(hold_folder(options), "default", report.run)
    changes = open_list(options, report)
    for content in (b"", b"PK", path.read_bytes()[:200]):
        path.write_bytes(content)
        assert ChangeList.open(path) is None
        assert changes.page("users", "deleted", 0, 5) == []


def test_held_package_is_approved_without_its_list(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold(store, options, tmp_path)
    change_list_path(hold_folder(options), "default", report.run).unlink()
    assert approve(store, "default", report.run, hold_folder(options)).state == "committed"
