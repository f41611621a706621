"""Killed and concurrent imports, holds and approvals: each takes effect in full or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from backends import Query, open_store, store_exists
from chalk_flask.roster.imports import ImportOptions, history, import_package
from chalk_flask.roster.imports.approval import ApprovalError, approve
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.roster.integrity.checker import IntegrityReport, check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.imports.conftest import hold_folder
from tests.roster.imports.kills.fork_server import APPROVAL_ERROR_CODE, ForkServer, fork_server
from tests.support.packages import PackageBuilder, package_with_extra_users, package_with_users

IMPORT_KILLS = 20
HOLD_KILLS = 12
HELD_FILES = ("changes", "zip")
"""Kinds of files of a held package: the list of its changes and the package."""
USERS = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(params=["json", "sqlite"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForkServer]:
    """Fork server whose store has 400 users."""
    with fork_server(tmp_path, request.param) as server:
        with open_store(server.url, COLLECTIONS) as store:
            import_package(store, "default", package_with_users(400).zip(tmp_path / "first.zip"), server.options)
        yield server


def held_runs(server: ForkServer) -> list[ImportRun]:
    with open_store(server.url, COLLECTIONS) as store, store.read("default") as snapshot:
        return [run for run in history.list_runs(snapshot, server.home / "none", "default") if run.state == "held"]


def count_approvals(server: ForkServer) -> int:
    with open_store(server.url, COLLECTIONS) as store, store.read("default") as snapshot:
        return snapshot.find(Query("audit")).body().count(b'"import.approved"')


def test_killed_approval_is_applied_once_or_repeatable(server: ForkServer, tmp_path: Path) -> None:
    path = package_with_extra_users(range(300), renamed=range(150)).zip(tmp_path / "second.zip")
    with open_store(server.url, COLLECTIONS) as store:
        before = check_store(store).digest
        run_id = import_package(store, "default", path, server.options).run
    with open_store("memory:", COLLECTIONS) as store:
        for package in (tmp_path / "first.zip", path):
            import_package(store, "default", package, ImportOptions(thresholds=DISABLED))
        after = check_store(store).digest
    server.save()
    states = set()
    for _ in server.kill_repeatedly("approve", run_id, HOLD_KILLS):
        with open_store(server.url, COLLECTIONS) as store:
            with store.read("default") as snapshot:
                run = history.find_run(snapshot, run_id)
            assert run
            states.add(run.state)
            if run.state == "held":
                assert f"{run_id}.zip" in server.files
                assert check_store(store).digest == before
                assert approve(store, "default", run_id, hold_folder(server.options)).state == "committed"
            else:
                assert run.state == "committed"
                with pytest.raises(ApprovalError):
                    approve(store, "default", run_id, hold_folder(server.options))
            report = check_store(store)
            assert (report.digest, report.problems) == (after, [])
            remove_expired(store, server.options.folder)
            assert server.files == []
        if run.state == "committed":
            assert count_approvals(server) == 1
    assert "held" in states


def test_killed_hold_leaves_complete_package_or_nothing(server: ForkServer, tmp_path: Path) -> None:
    path = package_with_extra_users(range(300), renamed=range(150)).zip(tmp_path / "second.zip")
    server.save()
    with open_store(server.url, COLLECTIONS) as store:
        before = check_store(store).state_digest
    for _ in server.kill_repeatedly("import", path, HOLD_KILLS):
        runs = held_runs(server)
        assert len(runs) <= 1
        assert {f"{run.id}.zip" for run in runs} <= set(server.files)
        with open_store(server.url, COLLECTIONS) as store:
            assert check_store(store).state_digest == before
            remove_expired(store, server.options.folder)
        assert server.files == [f"{run.id}.{kind}" for run in runs for kind in HELD_FILES]
        for run in runs:
            content = (hold_folder(server.options) / "default" / f"{run.id}.zip").read_bytes()
            assert sha256(content).hexdigest() == run.held_sha256 == run.sha256
            assert content == path.read_bytes()


def test_concurrent_approvals_apply_once(server: ForkServer, tmp_path: Path) -> None:
    path = package_with_extra_users(range(300)).zip(tmp_path / "second.zip")
    with open_store(server.url, COLLECTIONS) as store:
        run_id = import_package(store, "default", path, server.options).run
    server.save()
    for _ in range(3):
        server.reset()
        assert sorted(server.run("approve", run_id, count=4)[1]) == [0, *[APPROVAL_ERROR_CODE] * 3]
        assert count_approvals(server) == 1
        assert server.files == []


def test_concurrent_imports_hold_package_once(server: ForkServer, tmp_path: Path) -> None:
    path = package_with_extra_users(range(300)).zip(tmp_path / "second.zip")
    assert server.run("import", path, count=4)[1] == [0, 0, 0, 0]
    [run] = held_runs(server)
    assert server.files == [f"{run.id}.{kind}" for kind in HELD_FILES]


def build_package(version: str, without_users: range) -> PackageBuilder:
    """Return a package. Versions differ in every second user, and in the users that are missing."""
    package = PackageBuilder().set("orgs", "org-3", name=f"School {version}")
    template = package.row("users", "pupil-2")
    for number in range(USERS):
        if number not in without_users:
            name = version if number % 2 else "Same"
            user = {"sourcedId": f"u-{number}", "username": f"u{number}", "givenName": name}
            package.rows["users"].append(template | user)
    return package


def check_url(url: str) -> IntegrityReport:
    """Return the report of a store, or that of an empty one if it does not exist."""
    with open_store(url if store_exists(url) else "memory:", COLLECTIONS) as store:
        return check_store(store)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two packages, neither of which exceeds a change threshold after the other."""
    return [
        build_package("a", range(90)).zip(tmp_path / "a.zip"),
        build_package("b", range(910, USERS)).zip(tmp_path / "b.zip"),
    ]


@pytest.mark.parametrize("backend_on_disk", ["json", "sqlite"])
def test_killed_import_leaves_old_or_new_roster(backend_on_disk: str, paths: list[Path], tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as store:
        digests = [check_store(store).digest]
        for path in paths:
            assert import_package(store, "default", path, ImportOptions()).state == "committed"
            digests.append(check_store(store).digest)
    with fork_server(tmp_path, backend_on_disk) as server:
        for path, before, after in zip(paths, digests, digests[1:], strict=False):
            kill_imports(server, path, before, after)


def kill_imports(server: ForkServer, path: Path, before: str, after: str) -> None:
    """Kill imports of a package, check the store after each, and leave the store with the package in it."""
    server.save()
    for _ in server.kill_repeatedly("import", path, IMPORT_KILLS // 2):
        report = check_url(server.url)
        assert report.problems == []
        assert report.digest in (before, after)
    server.reset()
    assert server.run("import", path)[1] == [0]
    assert check_url(server.url).digest == after
