"""History of imports, and the shortcut for a package that was imported before."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import orjson
import pytest

from backends import Backend, Transaction, open_store
from chalk_flask.roster.imports import ImportOptions, history, import_package, run_files
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.settings import Settings
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_timestamp
from tests.roster.conftest import bodies
from tests.roster.imports.conftest import import_zip
from tests.support.packages import PackageBuilder, package_with_extra_users, package_with_users


def runs(store: Backend, options: ImportOptions) -> list[ImportRun]:
    assert options.folder
    with store.read("default") as snapshot:
        return history.list_runs(snapshot, options.folder, "default")


def test_runs_are_listed_oldest_first(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    broken = package_with_users(200).set("users", "pupil-1", enabledUser="perhaps")
    packages = [
        package_with_users(200),
        broken,
        package_with_users(200),
        package_with_users(100),
        package_with_extra_users(range(196), renamed=[1]),
    ]
    reports = [import_zip(store, package, options, tmp_path) for package in packages]
    listed = runs(store, options)
    assert [run.state for run in listed] == ["committed", "refused", "unchanged", "held", "committed"]
    assert [run.id for run in listed] == [report.run for report in reports]
    assert [run.report["total"] for run in listed] == [report.to_dict()["total"] for report in reports]
    assert {run.who for run in listed} == {"pat"}
    assert listed[-1].sha256 == hashlib.sha256((tmp_path / "package.zip").read_bytes()).hexdigest()
    assert listed[-1].report["dateLastModified"] == reports[-1].timestamp
    assert (
        ImportReport.from_dict(listed[0].report).to_text().splitlines()[:-1] == reports[0].to_text().splitlines()[:-1]
    )
    with store.read("default") as snapshot:
        states = [run.state_at(datetime.now(UTC), snapshot.revision) for run in listed]
    assert states == ["committed", "refused", "unchanged", "overtaken", "committed"]


def test_run_contains_mode_of_each_file(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, PackageBuilder(), options, tmp_path)
    package = PackageBuilder().only("users", "orgs").set("users", "pupil-1", givenName="Changed")
    package.properties["file.users"] = "delta"
    for row in package.rows["users"]:
        row |= {"status": "active", "dateLastModified": "2026-01-01T00:00:00.000Z"}
    assert import_zip(store, package, options, tmp_path).state == "committed"
    files = runs(store, options)[-1].report["files"]
    assert (files["users"]["mode"], files["users"]["updated"], files["orgs"]["mode"]) == ("delta", 1, "bulk")


def test_run_is_stored_in_the_transaction_of_its_roster(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    def fail(report: ImportReport, transaction: Transaction) -> NoReturn:
        assert history.find_run(transaction, report.run)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        import_package(store, "default", PackageBuilder().zip(tmp_path / "p.zip"), options, on_commit=fail)
    assert runs(store, options) == []
    assert not any(bodies(store).values())


def test_rejected_run_contains_no_cell(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", enabledUser="Zebedee", email="zeb@", givenName="")
    package.set("orgs", "org-3", parentSourcedId="org-3").set("enrollments", "enr-1", userSourcedId="Zorro")
    report = import_zip(store, package, options, tmp_path)
    printed = orjson.dumps(report.to_dict()).decode()
    assert "Zebedee" in printed
    assert "Zorro" in printed
    [file] = (options.folder or tmp_path).rglob("*.json")
    stored = file.read_text(encoding="utf-8")
    for cell in ("Zebedee", "zeb@", "Zorro", "pupil-1", "'org-3'"):
        assert cell not in stored
    [run] = runs(store, options)
    assert [(error["code"], error["file"], error["row"], error["column"]) for error in run.report["errors"]] == [
        (error.code, error.file, error.row, error.column) for error in report.problems.errors
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_rejected_run_contains_no_truncated_cell(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    names = {"org-2": "Zorro's" * 30, "org-3": 'Zebe"dee' * 27}
    ring = package_with_users(2).set("orgs", "org-2", sourcedId=names["org-2"], parentSourcedId=names["org-3"])
    ring.set("orgs", "org-3", sourcedId=names["org-3"], parentSourcedId=names["org-2"])
    assert "cycle" in [error.code for error in import_zip(store, ring, options, tmp_path).problems.errors]
    import_zip(
        store, package_with_users(2).set("users", "pupil-1", sourcedId="Zebra" * 60, role="Zoe" * 60), options, tmp_path
    )
    stored = b"".join(run.encode() for run in runs(store, options))
    assert b"Z" not in stored.replace(b'Z"', b""), "except in timestamps"
    assert b"is longer than 255 characters" in stored


def test_same_package_again_is_not_read(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    first, phases = import_zip(store, package_with_users(1500), options, tmp_path), list[str]()
    path = tmp_path / "package.zip"

    def again(options: ImportOptions = options) -> ImportReport:
        phases.clear()
        return import_package(
            store, "default", path, options, on_progress=lambda phase, rows, total: phases.append(phase)
        )

    for _ in range(2):
        report = again()
        assert (report.state, report.earlier, phases) == ("unchanged", first.run, [])
        assert "already imported this package" in report.to_text()
        assert report.total()["unchanged"] == first.total()["created"]
    mapped = again(replace(options, reading=ReadingOptions(map_enrollment_roles=True)))
    assert (mapped.state, mapped.earlier) == ("unchanged", None)
    assert phases.count("users") == 2, "after 1,000 rows, and at the end"
    import_zip(store, package_with_extra_users(range(1496), renamed=[1]), options, tmp_path / "..")
    package_with_users(1500).zip(path)
    report = again()
    assert (report.state, report.earlier, report.total()["updated"]) == ("committed", None, 1)


def test_same_package_again_purges_old_tombstones(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    options = replace(options, thresholds=DISABLED)
    import_zip(store, PackageBuilder(), options, tmp_path)
    short = PackageBuilder().drop("results", "result-1")
    import_zip(store, short, options, tmp_path)
    time.sleep(0.01)
    purge_now = replace(options, tombstone_days=0)
    import_zip(store, short, purge_now, tmp_path)
    assert import_zip(store, short, purge_now, tmp_path).earlier is not None
    assert "result-1" not in bodies(store)["results"]


def test_checksum_of_folder_covers_names_and_contents(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    first_path, second_path = PackageBuilder().folder(tmp_path / "one"), PackageBuilder().folder(tmp_path / "two")
    (second_path / "notes.txt").write_text("not part of the package")
    first = import_package(store, "default", first_path, options)
    assert import_package(store, "default", second_path, options).earlier == first.run
    digest = hashlib.sha256()
    for path in sorted(first_path.iterdir()):
        content = path.read_bytes()
        digest.update(f"{path.name}\n{len(content)}\n".encode() + content)
    assert first.sha256 == digest.hexdigest()


def test_runs_older_than_90_days_are_deleted(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    assert options.folder
    import_zip(store, PackageBuilder(), options, tmp_path)
    import_zip(store, PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"), options, tmp_path)
    long_ago = format_timestamp(datetime.now(UTC) - timedelta(days=91))
    with store.write("default") as transaction:
        history.store_run(
            transaction, replace(runs(store, options)[0], id="run-old", started=long_ago), datetime.now(UTC)
        )
    [file] = options.folder.rglob("*.json")
    remove_expired(store, options.folder, datetime.now(UTC) + timedelta(days=89))
    assert file.exists()
    os.utime(file, (0, 0))
    assert [run.state for run in runs(store, options)] == ["committed", "refused"]
    import_zip(store, PackageBuilder(), options, tmp_path)
    assert [run.state for run in runs(store, options)] == ["committed", "unchanged"]
    with store.read("default") as snapshot:
        assert history.find_run(snapshot, "run-old") is None


def test_number_of_rejected_runs_is_limited(
    store: Backend, options: ImportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_REJECTED_RUNS", 3)
    reports = [
        import_zip(store, PackageBuilder().set("users", "pupil-1", enabledUser="no!"), options, tmp_path)
        for _ in range(5)
    ]
    assert [run.id for run in runs(store, options)] == [report.run for report in reports[2:]]


def test_stores_have_different_folders(tmp_path: Path) -> None:
    folders = {
        run_files.store_folder(Settings(storage=url, data=str(tmp_path)))
        for url in ("sqlite:///a.db", "sqlite:///b.db", "json:///a.db", "odd://me:secret@host/a", "memory:")
    }
    assert len(folders) == 5
    assert run_files.store_folder(Settings(storage=f"sqlite:///{Path.cwd()}/a.db", data=str(tmp_path))) in folders
    assert run_files.store_folder(Settings(storage="odd://me:other@host/a", data=str(tmp_path))) in folders


def test_next_import_removes_files_of_a_crash(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    report = import_zip(store, package_with_users(100), options, tmp_path)
    [file] = (options.folder or tmp_path).rglob("*.zip")
    unknown = file.with_name("run-00000000-0000-0000-0000-000000000000.zip")
    part = file.with_name(".run-00000000-0000-0000-0000-000000000000.part")
    changes, changes_part = unknown.with_suffix(".changes"), part.with_suffix(".changes.part")
    foreign = file.with_name("notes.zip")
    for path in (unknown, part, changes, changes_part, foreign):
        path.write_bytes(b"content")
    import_zip(store, PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"), options, tmp_path)
    names = {path.name for path in file.parent.iterdir() if path.suffix != ".json"}
    assert names == {f"{report.run}.zip", f"{report.run}.changes", "notes.zip", ".lock"}
    assert run_files.remove_tenant(options.folder or tmp_path, "default") == 1
    assert [path.name for path in file.parent.iterdir()] == ["notes.zip"]


def test_import_without_folder_writes_no_file(tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as store:
        import_zip(store, PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"), ImportOptions(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["package.zip"]


@pytest.mark.every_backend
def test_run_of_a_change_is_found_by_its_timestamp(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    packages = [package_with_users(200), package_with_extra_users(range(196), renamed=[1]), package_with_users(10)]
    first, second, held = (import_zip(store, package, options, tmp_path) for package in packages)
    assert held.state == "held"
    with store.read("default") as snapshot:
        for report in (first, second):
            found = history.find_run_with_timestamp(snapshot, report.timestamp or "")
            assert found is not None
            assert found.id == report.run
        assert history.find_run_with_timestamp(snapshot, "2001-01-01T00:00:00.000Z") is None
        last = history.find_last_committed_run(snapshot)
    assert last is not None
    assert last.id == second.run


def test_tenant_without_imports_has_no_last_run(store: Backend) -> None:
    with store.read("default") as snapshot:
        assert history.find_last_committed_run(snapshot) is None
