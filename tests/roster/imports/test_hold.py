"""Hold of a package: the stored copy, and the rejection if it cannot be stored."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from backends import Backend, open_store
from chalk_flask.roster.imports import ImportOptions, ImportReport, history, import_package, run_files
from chalk_flask.roster.imports.approval import approve, discard
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of, url_in
from tests.roster.conftest import bodies, objects
from tests.roster.imports.conftest import held_packages, hold_folder, hold_package, import_zip, revision
from tests.support.api_client import Consumer
from tests.support.packages import PackageBuilder, package_with_users
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
    discard(store, "default", report.run, hold_folder(options))
    packed: list[tuple[str | None, bytes]] = []
    for name in ("one", "two"):
        path = package_with_users(150).folder(tmp_path / name)
        os.utime(path / "users.csv", (0, len(packed) * 1000))
        report = import_package(store, "default", path, options)
        packed.append((report.sha256, held_packages(options)[0].read_bytes()))
        discard(store, "default", report.run, hold_folder(options))
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
    assert (completed.returncode, "cannot be held: File too large" in completed.stderr) == (1, True), (
        completed.stdout + completed.stderr
    )
    assert not [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".zip", ".part")]
    with open_store(url, COLLECTIONS) as store:
        assert check_store(store).state_digest == before


def test_package_that_changes_during_import_is_rejected(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    path = package_with_users(1500).zip(tmp_path / "package.zip")

    def grow(phase: str, rows: int, total: int | None) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    report = import_package(store, "default", path, options, on_progress=grow)
    assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["changing"])
    assert not any(bodies(store).values())


def wait_until_running(thread: int, function: str, timeout: float = 60) -> None:
    """Wait until a thread is in a function with this name."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        frame = sys._current_frames().get(thread)
        if frame and any(outer.f_code.co_name == function for outer, _ in traceback.walk_stack(frame)):
            return
        time.sleep(0.001)
    raise AssertionError(f"no call of {function}")


def import_and_change_before_copy(
    store: Backend, options: ImportOptions, path: Path, change: Callable[[], object]
) -> ImportReport:
    """Import a package that must be held, and call `change` after its validation, before it is copied."""
    assert options.folder
    started: list[int] = []

    def run() -> ImportReport:
        started.append(threading.get_ident())
        return import_package(store, "default", path, options)

    with ThreadPoolExecutor(1) as pool:
        with run_files.folder_lock(run_files.folder_for(options.folder, "default")):
            future = pool.submit(run)
            while not started:
                time.sleep(0.001)
            wait_until_running(started[0], "folder_lock")
            change()
        return future.result(60)


def replace_package(path: Path, write: Callable[[Path], object]) -> None:
    """Move a package away, and write something else in its place."""
    path.rename(path.with_name("moved"))
    write(path)


@pytest.mark.parametrize(("other", "state"), [(150, "held"), (199, "committed")])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_package_that_is_replaced_before_it_is_copied_is_rejected(
    store: Backend, options: ImportOptions, tmp_path: Path, kind: str, other: int, state: str
) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    before, path = bodies(store), tmp_path / "next"
    write_first, write_other = (getattr(package_with_users(count), kind) for count in (151, other))
    write_first(path)
    report = import_and_change_before_copy(store, options, path, lambda: replace_package(path, write_other))
    assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["changing"])
    assert "Import it again once it is written completely." in report.to_text()
    assert (bodies(store), held_packages(options)) == (before, [])
    assert import_package(store, "default", path, options).state == state


def test_file_of_a_folder_that_is_replaced_before_the_copy_rejects(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    path, other = package_with_users(150).folder(tmp_path / "next"), package_with_users(140).folder(tmp_path / "other")
    report = import_and_change_before_copy(
        store, options, path, lambda: (other / "users.csv").replace(path / "users.csv")
    )
    assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["changing"])


@pytest.mark.parametrize("replacement", ["folder", "zip", "text", "pipe", "nothing", "large"])
def test_package_that_becomes_something_else_is_not_held(
    store: Backend, options: ImportOptions, tmp_path: Path, replacement: str
) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    first, other = package_with_users(150), package_with_users(149)
    path = tmp_path / "next"
    (first.folder if replacement == "zip" else first.zip)(path)

    def write(path: Path) -> None:
        match replacement:
            case "folder":
                other.folder(path)
            case "zip":
                other.zip(path)
            case "text":
                path.write_bytes(b"PK, but no ZIP")
            case "pipe":
                os.mkfifo(path)
            case "large":
                with path.open("wb") as file:
                    file.truncate(600 << 20)

    report = import_and_change_before_copy(store, options, path, lambda: replace_package(path, write))
    assert (report.state, len(report.problems.errors), held_packages(options)) == ("refused", 1, [])
    assert options.folder
    assert not list(options.folder.rglob("*.part"))


def test_approved_package_is_the_validated_one_although_the_path_changed(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    path = package_with_users(150).folder(tmp_path / "next")
    report = import_package(store, "default", path, options)
    package_with_users(10).folder(path)
    assert approve(store, "default", report.run, hold_folder(options)).state == "committed"
    active = [user for user in objects(store, "users").values() if user["status"] == "active"]
    assert len(active) == 150


def zip_with_many_entries(package: PackageBuilder, path: Path) -> Path:
    """Write a ZIP whose directory takes long to read."""
    with zipfile.ZipFile(package.zip(path), "a") as archive:
        for number in range(40_000):
            archive.writestr(f"other/{number}.txt", b"")
    return path


def test_package_that_is_replaced_while_it_is_opened_is_rejected(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    path = zip_with_many_entries(package_with_users(20), tmp_path / "next.zip")
    other = package_with_users(30).zip(tmp_path / "other.zip")
    with ThreadPoolExecutor(1) as pool:
        thread = threading.get_ident()

        def replace() -> None:
            wait_until_running(thread, "_open_zip")
            other.replace(path)

        future = pool.submit(replace)
        report = import_package(store, "default", path, options)
        future.result(60)
    assert (report.state, [error.code for error in report.problems.errors]) == ("refused", ["changing"])
    assert import_package(store, "default", path, options).state == "committed"
    assert len(objects(store, "users")) == 30
