"""Hold of a package: the stored copy, and the rejection if it cannot be stored."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from backends import Backend, open_store
from chalk_flask.roster.imports import ImportOptions, history, import_package
from chalk_flask.roster.imports.approval import discard
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of, url_in
from tests.roster.conftest import bodies
from tests.roster.imports.conftest import held_packages, hold_package, import_zip, revision
from tests.support.api_client import Consumer
from tests.support.packages import package_with_users
from tests.support.paths import ROOT


def test_hold_changes_no_response(app: Flask, options: ImportOptions, tmp_path: Path) -> None:
    store = services_of(app).store
    import_zip(store, package_with_users(200), options, tmp_path)
    consumer = Consumer(app)
    paths = ["/ims/oneroster/v1p1/users?limit=1000", "/ims/oneroster/v1p1/orgs", "/api/oneroster/v1p1/changes?since=1"]
    before, old_revision = [consumer.get(path) for path in paths], revision(store)
    assert import_zip(store, package_with_users(100), options, tmp_path).state == "held"
    after = [consumer.get(path) for path in paths]
    assert [response.data for response in after] == [response.data for response in before]
    assert [response.headers.get("ETag") for response in after] == [response.headers.get("ETag") for response in before]
    assert revision(store) == old_revision


def test_held_package_is_readable_by_owner_only(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    [file] = held_packages(options)
    assert file.stem == report.run
    assert file.read_bytes() == (tmp_path / "package.zip").read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert options.folder
    for folder in (file.parent, options.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_equal_folders_are_packed_into_equal_bytes(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = hold_package(store, options, tmp_path)
    discard(store, "default", report.run, options)
    packed: list[tuple[str | None, bytes]] = []
    for name in ("one", "two"):
        path = package_with_users(150).folder(tmp_path / name)
        os.utime(path / "users.csv", (0, len(packed) * 1000))
        report = import_package(store, "default", path, options)
        packed.append((report.sha256, held_packages(options)[0].read_bytes()))
        discard(store, "default", report.run, options)
    assert packed[0] == packed[1]


def test_same_package_is_held_once(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    first = hold_package(store, options, tmp_path)
    again = import_zip(store, package_with_users(150), options, tmp_path)
    assert (again.state, again.run, again.earlier) == ("held", first.run, first.run)
    assert "already held" in again.to_text()
    assert len(held_packages(options)) == 1
    held_packages(options)[0].unlink()
    assert import_zip(store, package_with_users(150), options, tmp_path).earlier is None
    assert len(held_packages(options)) == 1


def test_package_that_cannot_be_held_is_rejected(store: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    import_zip(store, package_with_users(200), ImportOptions(), tmp_path)
    before, number = bodies(store), revision(store)
    for folder in (tmp_path / "file" / "imports", None):
        report = import_zip(store, package_with_users(150), ImportOptions(folder=folder), tmp_path)
        assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["cannot_hold"])
    assert (bodies(store), revision(store)) == (before, number)
    assert history.list_runs(store.read("default"), tmp_path / "missing", "default")[-1].state == "committed"


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from chalk_flask.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_full_disk_rejects_package_that_must_be_held(tmp_path: Path) -> None:
    url = url_in(tmp_path, "json")
    with open_store(url, COLLECTIONS) as store:
        import_zip(store, package_with_users(400), ImportOptions(), tmp_path)
        before = check_store(store).state_digest
    path = package_with_users(300).zip(tmp_path / "package.zip")
    assert path.stat().st_size > 3000
    arguments = ["import", str(path), "--storage", url, "--data", str(tmp_path / "data")]
    completed = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.returncode, "cannot be held: File too large" in completed.stdout) == (1, True), (
        completed.stdout + completed.stderr
    )
    assert not [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".zip", ".part")]
    with open_store(url, COLLECTIONS) as store:
        assert check_store(store).state_digest == before


def test_package_that_changes_during_import_is_rejected(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    path = package_with_users(1500).zip(tmp_path / "package.zip")

    def grow(phase: str, rows: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    report = import_package(store, "default", path, options, progress=grow)
    assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["changing"])
    assert not any(bodies(store).values())
