"""What would delete or change much is held, and then approved or discarded, on every backend."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import cast

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, open_store
from chalk_flask.roster.diff.change_set import Outcome
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.approval import ApprovalError, approve, discard
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.thresholds import DISABLED, ChangeThresholds, Threshold, parse_threshold
from chalk_flask.roster.package.archive import ArchiveLimits
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of, url_in
from tests.roster.conftest import bodies, objects
from tests.support.api_client import Consumer
from tests.support.large_packages import OWN, people, total
from tests.support.packages import Made
from tests.support.paths import ROOT


@pytest.fixture
def options(tmp_path: Path) -> ImportOptions:
    return ImportOptions(folder=tmp_path / "imports")


def load(store: Backend, package: Made, options: ImportOptions, folder: Path) -> ImportReport:
    return import_package(store, "default", package.zip(folder / "package.zip"), options, requested_by="pat")


def held_files(options: ImportOptions) -> list[Path]:
    assert options.folder
    return sorted(options.folder.rglob("*.zip"))


def held(store: Backend, options: ImportOptions, folder: Path, stored: int = 200, left: int = 150) -> ImportReport:
    """An import that is held: it leaves so many users of so many."""
    assert load(store, total(stored), options, folder).state == "committed"
    report = load(store, total(left), options, folder)
    assert report.state == "held", report.to_text()
    return report


def test_a_folder_as_large_as_packages_may_be_is_held_and_approved(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    load(store, total(200), options, tmp_path)
    path = total(150).folder(tmp_path / "package")
    size = sum(file.stat().st_size for file in path.iterdir())
    exact = replace(options, limits=ArchiveLimits(size=size))
    report = import_package(store, "default", path, exact)
    assert (report.state, approve(store, "default", report.run, options).state) == ("held", "committed")
    less = replace(options, limits=ArchiveLimits(size=size - 1))
    assert import_package(store, "default", path, less).problems.errors[0].code == "too_large"


def revision(store: Backend) -> int:
    with store.read("default") as snapshot:
        return snapshot.revision


@pytest.mark.parametrize(
    ("stored", "deleted", "state"),
    [(200, 20, "committed"), (200, 21, "held"), (50, 10, "committed"), (50, 11, "held"), (100, 10, "committed")],
)
def test_deleting_more_than_10_percent_and_10_records_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, stored: int, deleted: int, state: str
) -> None:
    assert load(store, total(stored), options, tmp_path).state == "committed"
    report = load(store, total(stored - deleted), options, tmp_path)
    assert (report.state, report.total()["deleted"]) == (state, deleted)
    assert [(trip.file, trip.what, trip.count, trip.stored) for trip in report.exceeded] == (
        [("users", "deleted", deleted, stored)] if state == "held" else []
    )


@pytest.mark.parametrize(
    ("stored", "updated", "created", "state"),
    [
        *((100, 96, 0, "committed"), (101, 75, 0, "committed"), (101, 76, 0, "held")),
        *((104, 78, 0, "committed"), (104, 79, 0, "held")),
        *((104, 0, 300, "committed"), (104, 78, 300, "committed"), (104, 79, 1, "held")),
    ],
)
def test_changing_more_than_75_percent_of_more_than_100_records_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, stored: int, updated: int, created: int, state: str
) -> None:
    assert load(store, total(stored), options, tmp_path).state == "committed"
    package = people(range(stored - OWN + created), other=range(updated))
    report = load(store, package, options, tmp_path)
    assert (report.state, report.total()["updated"], report.total()["created"]) == (state, updated, created)
    assert [trip.what for trip in report.exceeded] == (["changed"] if state == "held" else [])


@given(
    counts=st.fixed_dictionaries(
        {name: st.integers(0, 60) for name in ("created", "updated", "deleted", "revived", "unchanged")}
    ),
    active=st.integers(0, 120),
    deleted=st.builds(Threshold, st.integers(0, 100), st.integers(0, 50)),
    changed=st.builds(Threshold, st.integers(0, 200), st.integers(0, 120)),
)
def test_a_limit_trips_above_its_share_and_above_its_number(
    counts: dict[str, int], active: int, deleted: Threshold, changed: Threshold
) -> None:
    outcomes = cast(dict[Outcome, int], counts)
    found = {trip.what for trip in ChangeThresholds(deleted, changed).exceeded("users", outcomes, lambda: active)}
    written = counts["updated"] + counts["deleted"]
    gone = counts["deleted"] > Fraction(deleted.percent, 100) * active and counts["deleted"] > deleted.rows
    moved = written > Fraction(changed.percent, 100) * active and active > changed.rows
    assert found == {name for name, much in (("deleted", gone), ("changed", moved)) if much}
    assert not list(DISABLED.exceeded("users", outcomes, lambda: active))


def test_limits_are_read_as_they_are_shown() -> None:
    assert [str(parse_threshold(text)) for text in ("10%,10", " 5 , 0 ", "100 %, 7")] == ["10%,10", "5%,0", "100%,7"]
    assert parse_threshold("OFF") is None
    for text in ("", "10", "10%", "-1,5", "1.5%,3", "10%,10,10", "x"):
        with pytest.raises(ValueError, match="is not a limit"):
            parse_threshold(text)


def test_nothing_that_is_served_differs_while_a_package_is_held(
    app: Flask, options: ImportOptions, tmp_path: Path
) -> None:
    store = services_of(app).store
    load(store, total(200), options, tmp_path)
    consumer = Consumer(app)
    paths = ["/ims/oneroster/v1p1/users?limit=1000", "/ims/oneroster/v1p1/orgs", "/api/oneroster/v1p1/changes?since=1"]
    before, number = [consumer.get(path) for path in paths], revision(store)
    assert load(store, total(100), options, tmp_path).state == "held"
    after = [consumer.get(path) for path in paths]
    assert [each.data for each in after] == [each.data for each in before]
    assert [each.headers.get("ETag") for each in after] == [each.headers.get("ETag") for each in before]
    assert revision(store) == number


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_approving_does_what_an_import_without_a_brake_does(
    store: Backend, options: ImportOptions, tmp_path: Path, packed: bool
) -> None:
    first, second = total(200).folder(tmp_path / "first"), people(range(90), other=range(60))
    path = second.zip(tmp_path / "second.zip") if packed else second.folder(tmp_path / "second")
    import_package(store, "default", first, options)
    held = import_package(store, "default", path, options)
    assert held.state == "held"
    with open_store("memory:", COLLECTIONS) as other:
        import_package(other, "default", first, ImportOptions())
        oracle = import_package(other, "default", path, ImportOptions(thresholds=DISABLED))
        digest = check_store(other).digest
    approved = approve(store, "default", held.run, options, requested_by="sam")
    assert (approved.state, approved.run, approved.package) == ("committed", held.run, path.name)
    assert approved.counts() == oracle.counts() == held.counts()
    assert check_store(store).digest == digest
    assert held_files(options) == []
    again = import_package(store, "default", path, options)
    assert (again.state, again.earlier) == ("unchanged", held.run)


def test_the_held_package_is_for_its_owner_alone(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = held(store, options, tmp_path)
    [file] = held_files(options)
    assert file.stem == report.run
    assert file.read_bytes() == (tmp_path / "package.zip").read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert options.folder
    for folder in (file.parent, options.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_equal_folders_are_packed_into_equal_bytes(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = held(store, options, tmp_path)
    discard(store, "default", report.run, options)
    packed: list[tuple[str | None, bytes]] = []
    for name in ("one", "two"):
        path = total(150).folder(tmp_path / name)
        os.utime(path / "users.csv", (0, len(packed) * 1000))
        report = import_package(store, "default", path, options)
        packed.append((report.sha256, held_files(options)[0].read_bytes()))
        discard(store, "default", report.run, options)
    assert packed[0] == packed[1]


def test_a_package_is_held_once_however_often_it_comes(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    first = held(store, options, tmp_path)
    again = load(store, total(150), options, tmp_path)
    assert (again.state, again.run, again.earlier) == ("held", first.run, first.run)
    assert "held already" in again.to_text()
    assert len(held_files(options)) == 1
    held_files(options)[0].unlink()
    assert load(store, total(150), options, tmp_path).earlier is None
    assert len(held_files(options)) == 1


def test_a_package_is_applied_with_the_options_it_was_held_with(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    load(store, total(200), options, tmp_path)
    package = total(150).set("enrollments", "enr-2", role="coach")
    mapped = ImportOptions(map_roles=True, folder=options.folder)
    assert load(store, package, options, tmp_path).state == "refused"
    report = load(store, package, mapped, tmp_path)
    assert approve(store, "default", report.run, options).state == "committed"


def refusal(store: Backend, run: str, options: ImportOptions, now: datetime | None = None) -> str:
    before, number = bodies(store), revision(store)
    with pytest.raises(ApprovalError) as raised:
        approve(store, "default", run, options, now=now)
    assert (bodies(store), revision(store)) == (before, number)
    return str(raised.value)


def test_bytes_that_were_tampered_with_are_not_applied(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = held(store, options, tmp_path)
    [file] = held_files(options)
    original = file.read_bytes()
    total(20).zip(file)
    assert "its bytes differ" in refusal(store, report.run, options)
    file.unlink()
    assert "is gone" in refusal(store, report.run, options)
    file.write_bytes(original)
    assert approve(store, "default", report.run, options).state == "committed"


def test_what_was_held_for_7_days_can_only_be_discarded(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    report = held(store, options, tmp_path)
    assert report.expires
    expires = datetime.fromisoformat(report.expires)
    assert timedelta(days=6.99) < expires - datetime.now(UTC) <= timedelta(days=7)
    assert "was held until" in refusal(store, report.run, options, expires)
    remove_expired(store, options.folder, expires - timedelta(seconds=1))
    assert len(held_files(options)) == 1
    remove_expired(store, options.folder, expires)
    assert held_files(options) == []
    assert discard(store, "default", report.run, options).state == "discarded"


def test_what_the_roster_has_overtaken_can_only_be_discarded(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    report = held(store, options, tmp_path)
    assert load(store, people(range(196), other=[3]), options, tmp_path).state == "committed"
    assert held_files(options) == []
    assert "the roster has changed" in refusal(store, report.run, options)
    discard(store, "default", report.run, options)
    assert "it is discarded" in refusal(store, report.run, options)
    with pytest.raises(ApprovalError, match="is not held"):
        discard(store, "default", report.run, options)
    with pytest.raises(ApprovalError, match="no import 'run-x' is held"):
        approve(store, "default", "run-x", options)


def test_discarding_changes_nothing_and_removes_the_package(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    report = held(store, options, tmp_path)
    before, number = bodies(store), revision(store)
    assert discard(store, "default", report.run, options, requested_by="sam").settled_by == "sam"
    assert (bodies(store), revision(store), held_files(options)) == (before, number, [])


def test_a_dry_run_says_that_it_would_be_held_and_holds_nothing(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    load(store, total(200), options, tmp_path)
    path = total(150).zip(tmp_path / "package.zip")
    report = import_package(store, "default", path, options, dry_run=True)
    assert (report.state, [trip.count for trip in report.exceeded]) == ("checked", [50])
    assert "It would be held, because:" in report.to_text()
    assert held_files(options) == []


def test_a_package_that_cannot_be_kept_is_refused(store: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    load(store, total(200), ImportOptions(), tmp_path)
    before, number = bodies(store), revision(store)
    for folder in (tmp_path / "file" / "imports", None):
        report = load(store, total(150), ImportOptions(folder=folder), tmp_path)
        assert (report.state, [each.code for each in report.problems.errors]) == ("refused", ["cannot_hold"])
    assert (bodies(store), revision(store)) == (before, number)
    assert history.list_runs(store.read("default"), tmp_path / "nowhere", "default")[-1].state == "committed"


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from chalk_flask.cli import main
main(sys.argv[1:])
"""


def test_a_full_disk_refuses_what_would_be_held(tmp_path: Path) -> None:
    url = url_in(tmp_path, "json")
    with open_store(url, COLLECTIONS) as store:
        load(store, total(400), ImportOptions(), tmp_path)
        before = check_store(store).state
    path = total(300).zip(tmp_path / "package.zip")
    assert path.stat().st_size > 3000
    words = ["import", str(path), "--storage", url, "--data", str(tmp_path / "data")]
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "which is not possible: File too large" in ran.stdout) == (1, True), ran.stdout + ran.stderr
    assert not [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".zip", ".part")]
    with open_store(url, COLLECTIONS) as store:
        assert check_store(store).state == before


def test_a_package_that_changes_while_it_is_read_is_refused(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    path = total(1500).zip(tmp_path / "package.zip")

    def grow(phase: str, rows: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    report = import_package(store, "default", path, options, progress=grow)
    assert (report.state, [each.code for each in report.problems.errors]) == ("refused", ["changing"])
    assert not any(bodies(store).values())


numbers = st.sets(st.integers(0, 14))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packages=st.lists(st.tuples(numbers, numbers, st.integers(0, 5)), min_size=2, max_size=6))
def test_every_import_is_refused_held_committed_or_unchanged_and_the_store_agrees(
    packages: list[tuple[set[int], set[int], int]], tmp_path: Path
) -> None:
    options = ImportOptions(
        thresholds=ChangeThresholds(Threshold(10, 2), Threshold(75, 6)), folder=tmp_path / "imports"
    )
    known: dict[str, str] = {}
    with open_store("memory:", COLLECTIONS) as store:
        for present, other, fault in packages:
            package = people(sorted(present), other=other)
            if not fault:
                package.set("users", "pupil-1", enabledUser="perhaps")
            said = {row["sourcedId"]: row["givenName"] for row in package.rows["users"]}
            gone = len(known.keys() - said.keys())
            changed = gone + sum(known.get(key, name) != name for key, name in said.items())
            much = (gone > 2 and gone * 10 > len(known)) or (len(known) > 6 and changed * 4 > 3 * len(known))
            expected = "refused" if not fault else "held" if much else "committed" if said != known else "unchanged"
            assert load(store, package, options, tmp_path).state == expected
            known = said if expected == "committed" else known
            users = objects(store, "users").items()
            assert {key: user["givenName"] for key, user in users if user["status"] == "active"} == known
