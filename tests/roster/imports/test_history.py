"""What imports did is known afterwards, and a package that comes again is not read through."""

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
from chalk_flask.roster.imports import held_files, history
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.settings import Settings
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import bodies
from tests.support.large_packages import people, total
from tests.support.packages import Made


@pytest.fixture
def options(tmp_path: Path) -> ImportOptions:
    return ImportOptions(folder=tmp_path / "imports")


def load(store: Backend, package: Made, options: ImportOptions, folder: Path) -> ImportReport:
    return import_package(store, "default", package.zip(folder / "package.zip"), options, requested_by="pat")


def known(store: Backend, options: ImportOptions) -> list[ImportRun]:
    assert options.folder
    with store.read("default") as snapshot:
        return history.list_runs(snapshot, options.folder, "default")


def test_every_run_is_known_in_the_order_of_time(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    broken = total(200).set("users", "pupil-1", enabledUser="perhaps")
    packages = [total(200), broken, total(200), total(100), people(range(196), other=[1])]
    reports = [load(store, package, options, tmp_path) for package in packages]
    found = known(store, options)
    assert [run.state for run in found] == ["committed", "refused", "unchanged", "held", "committed"]
    assert [run.id for run in found] == [report.run for report in reports]
    assert [run.report["total"] for run in found] == [report.to_dict()["total"] for report in reports]
    assert {run.who for run in found} == {"pat"}
    assert found[-1].sha256 == hashlib.sha256((tmp_path / "package.zip").read_bytes()).hexdigest()
    assert found[-1].report["dateLastModified"] == reports[-1].timestamp
    assert ImportReport.from_dict(found[0].report).to_text().splitlines()[:-1] == reports[0].to_text().splitlines()[:-1]
    with store.read("default") as snapshot:
        states = [run.state_at(datetime.now(UTC), snapshot.revision) for run in found]
    assert states == ["committed", "refused", "unchanged", "overtaken", "committed"]


def test_the_mode_of_each_file_is_known(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    load(store, Made(), options, tmp_path)
    package = Made().only("users", "orgs").set("users", "pupil-1", givenName="Changed")
    package.properties["file.users"] = "delta"
    for row in package.rows["users"]:
        row |= {"status": "active", "dateLastModified": "2026-01-01T00:00:00.000Z"}
    assert load(store, package, options, tmp_path).state == "committed"
    files = known(store, options)[-1].report["files"]
    assert (files["users"]["mode"], files["users"]["updated"], files["orgs"]["mode"]) == ("delta", 1, "bulk")


def test_a_run_is_stored_with_its_roster_or_not_at_all(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    def fail(report: ImportReport, transaction: Transaction) -> NoReturn:
        assert history.find_run(transaction, report.run)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        import_package(store, "default", Made().zip(tmp_path / "p.zip"), options, on_commit=fail)
    assert known(store, options) == []
    assert not any(bodies(store).values())


def test_no_cell_of_a_refused_package_is_kept(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    package = Made().set("users", "pupil-1", enabledUser="Zebedee", email="zeb@", givenName="")
    package.set("orgs", "org-3", parentSourcedId="org-3").set("enrollments", "enr-1", userSourcedId="Zorro")
    report = load(store, package, options, tmp_path)
    told = orjson.dumps(report.to_dict()).decode()
    assert "Zebedee" in told
    assert "Zorro" in told
    [file] = (options.folder or tmp_path).rglob("*.json")
    kept = file.read_text(encoding="utf-8")
    for cell in ("Zebedee", "zeb@", "Zorro", "pupil-1", "'org-3'"):
        assert cell not in kept
    [run] = known(store, options)
    assert [(each["code"], each["file"], each["row"], each["column"]) for each in run.report["errors"]] == [
        (each.code, each.file, each.row, each.column) for each in report.problems.errors
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_of_long_cells_nothing_is_kept_though_messages_cut_them(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    names = {"org-2": "Zorro's" * 30, "org-3": 'Zebe"dee' * 27}
    ring = total(2).set("orgs", "org-2", sourcedId=names["org-2"], parentSourcedId=names["org-3"])
    ring.set("orgs", "org-3", sourcedId=names["org-3"], parentSourcedId=names["org-2"])
    assert "cycle" in [each.code for each in load(store, ring, options, tmp_path).problems.errors]
    load(store, total(2).set("users", "pupil-1", sourcedId="Zebra" * 60, role="Zoe" * 60), options, tmp_path)
    kept = b"".join(run.to_dict() for run in known(store, options))
    assert b"Z" not in kept.replace(b'Z"', b""), "but for moments"
    assert b"is longer than 255 characters" in kept


def test_a_package_that_comes_again_is_not_read_through(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    first, seen = load(store, total(1500), options, tmp_path), list[str]()
    path = tmp_path / "package.zip"

    def again(options: ImportOptions = options) -> ImportReport:
        seen.clear()
        return import_package(store, "default", path, options, progress=lambda phase, rows: seen.append(phase))

    for _ in range(2):
        report = again()
        assert (report.state, report.earlier, seen) == ("unchanged", first.run, [])
        assert "was imported already" in report.to_text()
        assert report.total()["unchanged"] == first.total()["created"]
    mapped = again(replace(options, map_roles=True))
    assert (mapped.state, mapped.earlier, seen) == ("unchanged", None, ["users"])
    load(store, people(range(1496), other=[1]), options, tmp_path / "..")
    total(1500).zip(path)
    report = again()
    assert (report.state, report.earlier, report.total()["updated"]) == ("committed", None, 1)


def test_old_tombstones_are_removed_although_the_package_is_the_same(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    load(store, Made(), options, tmp_path)
    short = Made().drop("results", "result-1")
    load(store, short, options, tmp_path)
    time.sleep(0.01)
    at_once = replace(options, tombstone_days=0)
    load(store, short, at_once, tmp_path)
    assert load(store, short, at_once, tmp_path).earlier is not None
    assert "result-1" not in bodies(store)["results"]


def test_a_folder_is_told_by_the_names_and_contents_of_its_files(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    one, two = Made().folder(tmp_path / "one"), Made().folder(tmp_path / "two")
    (two / "notes.txt").write_text("no part of the package")
    first = import_package(store, "default", one, options)
    assert import_package(store, "default", two, options).earlier == first.run
    digest = hashlib.sha256()
    for path in sorted(one.iterdir()):
        content = path.read_bytes()
        digest.update(f"{path.name}\n{len(content)}\n".encode() + content)
    assert first.sha256 == digest.hexdigest()


def test_what_is_older_than_90_days_is_forgotten(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    assert options.folder
    load(store, Made(), options, tmp_path)
    load(store, Made().set("users", "pupil-1", enabledUser="perhaps"), options, tmp_path)
    long_ago = history.written(datetime.now(UTC) - timedelta(days=91))
    with store.write("default") as transaction:
        history.store_run(
            transaction, replace(known(store, options)[0], id="run-old", started=long_ago), datetime.now(UTC)
        )
    [file] = options.folder.rglob("*.json")
    remove_expired(store, options.folder, datetime.now(UTC) + timedelta(days=89))
    assert file.exists()
    os.utime(file, (0, 0))
    assert [run.state for run in known(store, options)] == ["committed", "refused"]
    load(store, Made(), options, tmp_path)
    assert [run.state for run in known(store, options)] == ["committed", "unchanged"]
    with store.read("default") as snapshot:
        assert history.find_run(snapshot, "run-old") is None


def test_refused_runs_are_bounded_in_number(
    store: Backend, options: ImportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_REJECTED_RUNS", 3)
    reports = [load(store, Made().set("users", "pupil-1", enabledUser="no!"), options, tmp_path) for _ in range(5)]
    assert [run.id for run in known(store, options)] == [report.run for report in reports[2:]]


def test_stores_that_share_data_do_not_see_each_others_runs(tmp_path: Path) -> None:
    folders = {
        held_files.store_folder(Settings(storage=url, data=str(tmp_path)))
        for url in ("sqlite:///a.db", "sqlite:///b.db", "json:///a.db", "odd://me:secret@host/a", "memory:")
    }
    assert len(folders) == 5
    assert held_files.store_folder(Settings(storage=f"sqlite:///{Path.cwd()}/a.db", data=str(tmp_path))) in folders
    assert held_files.store_folder(Settings(storage="odd://me:other@host/a", data=str(tmp_path))) in folders


def test_a_crash_leaves_nothing_that_the_next_import_does_not_remove(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    load(store, total(200), options, tmp_path)
    report = load(store, total(100), options, tmp_path)
    [file] = (options.folder or tmp_path).rglob("*.zip")
    unknown = file.with_name("run-00000000-0000-0000-0000-000000000000.zip")
    part = file.with_name(".run-00000000-0000-0000-0000-000000000000.part")
    theirs = file.with_name("notes.zip")
    for path in (unknown, part, theirs):
        path.write_bytes(b"left")
    load(store, Made().set("users", "pupil-1", enabledUser="perhaps"), options, tmp_path)
    left = {path.name for path in file.parent.iterdir() if path.suffix != ".json"}
    assert left == {f"{report.run}.zip", "notes.zip", ".lock"}
    assert held_files.remove_tenant(options.folder or tmp_path, "default") == 1
    assert [path.name for path in file.parent.iterdir()] == ["notes.zip"]


def test_an_import_without_a_folder_keeps_nothing_of_a_refused_package(tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as store:
        load(store, Made().set("users", "pupil-1", enabledUser="perhaps"), ImportOptions(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["package.zip"]
