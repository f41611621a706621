"""Imports from a drop folder: outcomes, and what happens after a crash at each step."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pytest

from backends import open_store
from chalk_flask.drop_folder import DropFolder, DropFolderError, DropFolderWatcher
from chalk_flask.drop_folder.watcher import CRASH_REPORT, INVALID_REPORT, MAX_STARTS
from chalk_flask.logs.events import event_of, members_of
from chalk_flask.roster.imports.history import ImportRun, list_runs
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.tenant_imports import ImportChoices, run_import
from chalk_flask.settings import Settings, load_settings
from chalk_flask.settings.data_folder import StoreIdFile
from chalk_flask.storage import COLLECTIONS, LazyStore
from tests.support.packages import PackageBuilder, package_with_users
from tests.support.storage.failures import UNPRIVILEGED_USER_ID, public_folder, without_root
from tests.support.storage.owners import owner_of, requires_root

pytestmark = pytest.mark.on_backend("sqlite")

NOW = datetime(2026, 11, 29, 4, 30, tzinfo=UTC)
SUBFOLDERS = ("done", "held", "rejected", "working")


class DropFolderCase:
    """Drop folder of a district, with a store in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "incoming"
        self.path.mkdir()
        self.store_file = folder / "chalk.db"
        self.settings: Settings = load_settings(
            {"storage": f"sqlite:///{self.store_file}", "data": str(folder / "data")}
        )
        self.folder = DropFolder(self.path, self.store_file)

    def drop(self, package: PackageBuilder, name: str = "district.zip") -> None:
        """Put a package into the folder."""
        package.zip(self.path / name).chmod(0o644)  # also readable without root

    def watcher(self) -> DropFolderWatcher:
        """Return a watcher for files that are complete at once."""
        return DropFolderWatcher(self.folder, self.settings, "default", ImportChoices(), 0, "test", lambda: NOW)

    def run(self) -> DropFolderWatcher:
        """Import what is in the folder."""
        watcher = self.watcher()
        watcher.run(once=True)
        return watcher

    def files(self) -> list[str]:
        """Return the paths of all files below the folder, without hidden ones."""
        paths = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if not path.name.startswith("."))

    def runs(self) -> list[ImportRun]:
        """Return the stored import runs, oldest first."""
        with open_store(self.settings.storage, COLLECTIONS) as store, store.read("default") as snapshot:
            return list_runs(snapshot, store_folder(self.settings), "default")


@pytest.fixture
def case(tmp_path: Path) -> DropFolderCase:
    return DropFolderCase(tmp_path)


def test_package_is_moved_by_its_outcome_with_its_report(case: DropFolderCase) -> None:
    for number, package in enumerate(
        (package_with_users(200), package_with_users(150), PackageBuilder().set("users", "pupil-1", role="pilot"))
    ):
        case.drop(package, f"{number}.ZIP")
        os.utime(case.path / f"{number}.ZIP", (number, number))
    watcher = case.run()
    assert watcher.outcomes == {"done", "held", "rejected"}
    moved = ["done/20261129T043000Z-0.ZIP", "held/20261129T043000Z-1.ZIP", "rejected/20261129T043000Z-2.ZIP"]
    assert case.files() == [name for path in moved for name in (path, f"{path}.txt")]
    runs = case.runs()
    assert sorted(run.state for run in runs) == ["committed", "held", "refused"]
    held = next(run for run in runs if run.state == "held")
    report = (case.path / f"{moved[1]}.txt").read_text(encoding="utf-8")
    assert report.startswith(f"Run {held.id}\n1.ZIP: Held for approval")
    assert (held.who, held.report["package"]) == ("test", "1.ZIP")
    assert stat.S_IMODE((case.path / f"{moved[2]}.txt").stat().st_mode) == 0o600
    assert {stat.S_IMODE((case.path / name).stat().st_mode) for name in SUBFOLDERS} == {0o700}
    assert not list((case.path / "working").iterdir())


def test_folder_data_of_a_held_package_gets_the_store_id(case: DropFolderCase) -> None:
    for count in (200, 100):
        case.drop(package_with_users(count))
        case.run()
    assert StoreIdFile.read(Path(case.settings.data))


def test_log_of_a_package_that_is_held_already_names_its_run(
    case: DropFolderCase, caplog: pytest.LogCaptureFixture
) -> None:
    case.drop(package_with_users(200))
    case.run()
    caplog.set_level(logging.INFO)
    for _ in range(2):
        case.drop(package_with_users(100))
        case.run()
    moved = [members_of(record)["run"] for record in caplog.records if event_of(record) == "package.moved"]
    held = next(run.id for run in case.runs() if run.state == "held")
    assert moved == [held, held]


def test_packages_of_the_same_name_are_all_kept(case: DropFolderCase) -> None:
    for count in (10, 11, 12):
        case.drop(package_with_users(count))
        case.run()
    assert case.files()[::2] == [f"done/20261129T043000Z-district{number}.zip" for number in ("-2", "-3", "")]


def test_package_with_a_long_name_is_moved(case: DropFolderCase) -> None:
    case.drop(package_with_users(10), f"{'é' * 120}.zip")
    assert case.run().outcomes == {"done"}
    assert case.files()[0].endswith(f"Z-{'é' * 98}.zip")


def test_other_files_stay_where_they_are(case: DropFolderCase, tmp_path: Path) -> None:
    content = package_with_users(10).zip(tmp_path / "outside.zip").read_bytes()
    for name in (".upload.zip", "notes.txt", "district.zip.part"):
        (case.path / name).write_bytes(content)
    assert case.run().outcomes == set()
    assert case.files() == ["district.zip.part", "notes.txt"]
    assert not case.store_file.exists()


def test_entries_that_are_no_files_are_rejected(case: DropFolderCase, tmp_path: Path) -> None:
    outside = package_with_users(10).zip(tmp_path / "outside.zip")
    rejected = case.path / "rejected"
    for _ in range(2):
        (case.path / "link.zip").symlink_to(outside)
        (case.path / "gone.zip").symlink_to(tmp_path / "gone")
        (case.path / "folder.ZIP").mkdir()
        (case.path / "folder.ZIP" / "x").touch()
        os.mkfifo(case.path / "pipe.zip")
        case.drop(package_with_users(10))
        assert case.run().outcomes >= {"done", "rejected"}
        assert not list(case.path.glob("*.[zZ][iI][pP]"))
    moved = rejected / "20261129T043000Z-link.zip"
    assert (moved.readlink(), outside.exists()) == (outside, True)
    assert (rejected / "20261129T043000Z-gone-2.zip").is_symlink()
    assert len(list(rejected.iterdir())) == 16
    kinds = {"link.zip": "a link", "folder-2.ZIP": "a folder", "pipe.zip": "a pipe"}
    for name, kind in kinds.items():
        report = rejected / f"20261129T043000Z-{name}.txt"
        assert report.read_text(encoding="utf-8") == f"{INVALID_REPORT.format(kind)}\n"


@pytest.fixture
def public_case(tmp_path: Path) -> Iterator[DropFolderCase]:
    """Yield a drop folder that every user can use. One import has loaded all modules, which others may not read."""
    earlier = DropFolderCase(tmp_path)
    earlier.drop(package_with_users(10))
    assert earlier.run().outcomes == {"done"}
    with public_folder() as path:
        case = DropFolderCase(path)
        case.path.chmod(0o777)
        yield case


def event_names(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "event", "") for record in caplog.records]


def test_folder_that_cannot_be_moved_does_not_block_packages(
    public_case: DropFolderCase, caplog: pytest.LogCaptureFixture
) -> None:
    folder = public_case.path / "folder.zip"
    folder.mkdir(mode=0o555)
    public_case.drop(package_with_users(10))
    with without_root():
        watcher = public_case.run()
    assert (watcher.outcomes, watcher.has_failed, watcher.has_unmovable) == ({"done"}, False, True)
    assert list((public_case.path / "rejected").iterdir()) == []
    assert "package.unmovable" in event_names(caplog)
    folder.chmod(0o777)


@requires_root
def test_package_that_cannot_be_moved_does_not_block_others(
    public_case: DropFolderCase, caplog: pytest.LogCaptureFixture
) -> None:
    case = public_case
    for name in ("a.zip", "Family1.zip"):  # in a sticky folder, only its owner can move a file
        case.drop(package_with_users(10), name)
        os.utime(case.path / name, (1, 1))
    case.drop(package_with_users(11), "mine.zip")
    os.chown(case.path / "mine.zip", UNPRIVILEGED_USER_ID, UNPRIVILEGED_USER_ID)
    case.path.chmod(0o1777)
    with without_root():
        watcher = case.run()
    assert (watcher.outcomes, watcher.has_failed, watcher.has_unmovable) == ({"done"}, False, True)
    assert case.files() == ["Family1.zip", "a.zip", *(f"done/20261129T043000Z-mine.zip{end}" for end in ("", ".txt"))]
    assert list((case.path / "working").iterdir()) == []
    assert event_names(caplog).count("package.unmovable") == 1
    assert "Family1" not in caplog.text


def test_incomplete_packages_are_reported_once(
    case: DropFolderCase, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("chalk_flask.drop_folder.watcher.POLL_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    case.drop(package_with_users(10))
    content = (case.path / "district.zip").read_bytes()
    for name in ("Family1.zip", "Family2.zip"):
        (case.path / name).write_bytes(content[:1000])
    watcher = case.watcher()
    thread = Thread(target=watcher.run)
    thread.start()
    try:
        wait_for(lambda: watcher.outcomes == {"done"})
        (tmp_path / "whole.zip").write_bytes(content)
        (tmp_path / "whole.zip").rename(case.path / "Family1.zip")
        wait_for(lambda: len(case.runs()) == 2)
    finally:
        watcher.stop()
        thread.join()
    events = [record for record in caplog.records if getattr(record, "event", "") == "package.incomplete"]
    assert [record.levelname for record in events] == ["WARNING"]
    assert "Family" not in caplog.text
    assert "Family2.zip" in case.files()


def test_watcher_waits_while_the_folder_is_gone(
    case: DropFolderCase, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalk_flask.drop_folder.watcher.POLL_SECONDS", 0.01)
    monkeypatch.setattr("chalk_flask.drop_folder.watcher.RETRY_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    watcher = case.watcher()
    thread = Thread(target=watcher.run)
    thread.start()
    try:
        wait_for(lambda: "watch.started" in event_names(caplog))
        away = case.path.rename(case.path.with_name("away"))
        wait_for(lambda: "package.postponed" in event_names(caplog))
        shutil.rmtree(away)
        case.path.mkdir()
        case.drop(package_with_users(10))
        wait_for(lambda: watcher.outcomes == {"done"})
    finally:
        watcher.stop()
        thread.join()
    names = event_names(caplog)
    assert (names.count("watch.started"), names[-1]) == (1, "watch.stopped")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@requires_root
def test_what_root_creates_belongs_to_the_owner_of_the_store(public_case: DropFolderCase) -> None:
    case = public_case
    os.chown(case.path.parent, UNPRIVILEGED_USER_ID, UNPRIVILEGED_USER_ID)
    case.drop(package_with_users(10))
    with case.folder.lock():
        claimed = case.folder.claim(case.path / "district.zip", NOW)
        assert claimed
        claimed.count_start()
    assert {owner_of(path)[0] for path in case.path.rglob("*") if path.suffix != ".zip"} == {UNPRIVILEGED_USER_ID}
    case.run()
    case.drop(package_with_users(11))
    assert owner_of(case.path / "done" / "20261129T043000Z-district.zip.txt")[0] == UNPRIVILEGED_USER_ID
    with without_root():
        watcher = case.run()
    assert (watcher.outcomes, watcher.has_failed) == ({"done"}, False)


@requires_root
@pytest.mark.parametrize("name", ["done", ".chalk-flask.lock"])
def test_subfolder_or_lock_of_another_user_is_named(name: str, public_case: DropFolderCase) -> None:
    with public_case.folder.lock():
        pass
    os.chown(public_case.path, UNPRIVILEGED_USER_ID, UNPRIVILEGED_USER_ID)
    for path in public_case.path.iterdir():
        if path.name != name:
            os.chown(path, UNPRIVILEGED_USER_ID, UNPRIVILEGED_USER_ID)
    with without_root(), pytest.raises(DropFolderError, match=f"{name} belongs to another user: give it to the user"):
        public_case.run()


def test_lock_that_is_a_link_changes_nothing(case: DropFolderCase, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("content", encoding="utf-8")
    mode = target.stat().st_mode
    (case.path / ".chalk-flask.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        case.run()
    assert (target.read_text(encoding="utf-8"), target.stat().st_mode) == ("content", mode)


def test_import_that_ended_before_a_crash_is_not_repeated(case: DropFolderCase) -> None:
    case.drop(package_with_users(10))
    with case.folder.lock():
        claimed = case.folder.claim(case.path / "district.zip", NOW)
    assert claimed
    claimed.count_start()
    with LazyStore(case.settings.storage) as store:
        run_import(store, case.settings, claimed.path, "default", run=claimed.run, requested_by="test")
    assert case.run().outcomes == {"done"}
    assert [(run.id, run.state) for run in case.runs()] == [(claimed.run, "committed")]
    assert case.files() == [f"done/20261129T043000Z-district.zip{suffix}" for suffix in ("", ".txt")]
    assert "Imported." in (case.path / case.files()[1]).read_text(encoding="utf-8")


def test_import_that_a_crash_interrupted_starts_again(case: DropFolderCase) -> None:
    case.drop(package_with_users(10))
    with case.folder.lock():
        claimed = case.folder.claim(case.path / "district.zip", NOW)
        assert case.folder.claim(case.path / "district.zip", NOW) is None
    assert claimed
    (case.path / "working" / claimed.folder.name.replace("2026", "2025")).mkdir()  # killed before the move
    claimed.count_start()
    assert case.run().outcomes == {"done"}
    assert [(run.id, run.state) for run in case.runs()] == [(claimed.run, "committed")]
    assert not list((case.path / "working").iterdir())


def test_package_that_ends_the_process_again_and_again_is_rejected(case: DropFolderCase) -> None:
    case.drop(package_with_users(10))
    with case.folder.lock():
        claimed = case.folder.claim(case.path / "district.zip", NOW)
    assert claimed
    assert [claimed.count_start() for _ in range(MAX_STARTS)] == [1, 2, 3]
    assert case.run().outcomes == {"rejected"}
    assert (case.path / case.files()[1]).read_text(encoding="utf-8") == f"{CRASH_REPORT}\n"
    assert not case.store_file.exists()


def test_package_waits_while_the_store_fails(case: DropFolderCase, caplog: pytest.LogCaptureFixture) -> None:
    case.drop(package_with_users(10), "Given1 Family1.zip")
    case.store_file.mkdir()
    for _ in range(MAX_STARTS + 1):
        watcher = case.run()
        assert (watcher.has_failed, watcher.outcomes) == (True, set())
        assert [name.partition("/")[0] for name in case.files()] == ["working"]
    assert "package.postponed" in [getattr(record, "event", "") for record in caplog.records]
    assert "Family1" not in caplog.text
    case.store_file.rmdir()
    assert case.run().outcomes == {"done"}


def test_stopped_import_is_rolled_back_and_starts_again(case: DropFolderCase) -> None:
    case.drop(package_with_users(5000))
    watcher, ended = case.watcher(), Event()

    def stop() -> None:
        while not ended.is_set() and not list(case.path.glob("working/*/.starts")):
            time.sleep(0.001)
        watcher.stop()

    thread = Thread(target=stop)
    thread.start()
    watcher.run(once=True)
    ended.set()
    thread.join()
    assert [name.partition("/")[0] for name in case.files()] == ["working"]
    assert case.runs() == []
    case.run()
    assert [run.state for run in case.runs()] == ["committed"]
    assert case.files()[0] == "done/20261129T043000Z-district.zip"


def test_folder_has_one_watcher(case: DropFolderCase) -> None:
    with case.folder.lock(), pytest.raises(DropFolderError, match="another process"):
        case.run()
    with pytest.raises(DropFolderError, match="there is no folder"):
        DropFolderWatcher(
            DropFolder(case.path / "x", case.store_file), case.settings, "default", ImportChoices(), 0, "test"
        ).run(once=True)


def test_subfolder_that_is_a_link_is_not_used(case: DropFolderCase, tmp_path: Path) -> None:
    (case.path / "done").symlink_to(tmp_path)
    with pytest.raises(DropFolderError, match="done is not a folder: remove it"):
        case.run()
