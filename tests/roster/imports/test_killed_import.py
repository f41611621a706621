"""Killed imports: the roster is the old one or the new one, and the store opens without repair."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import open_store, store_exists
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.verify.checker import IntegrityReport, check_store, empty_report
from chalk_flask.storage import COLLECTIONS
from tests.roster.imports.fork_server import ForkServer, fork_server
from tests.support.packages import PackageBuilder

KILLS = 20
USERS = 1000

pytestmark = pytest.mark.slow


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
    if not store_exists(url):
        return empty_report()
    with open_store(url, COLLECTIONS) as store:
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
    digests = [empty_report().digest]
    with open_store("memory:", COLLECTIONS) as store:
        for path in paths:
            assert import_package(store, "default", path, ImportOptions()).state == "committed"
            digests.append(check_store(store).digest)
    with fork_server(tmp_path, backend_on_disk) as server:
        for path, before, after in zip(paths, digests, digests[1:], strict=False):
            kill_imports(server, path, before, after)


def kill_imports(server: ForkServer, path: Path, before: str, after: str) -> None:
    """Kill imports of a package, check the store after each, and leave the store with the package in it."""
    server.save()
    for _ in server.kill_repeatedly("import", path, KILLS // 2):
        report = check_url(server.url)
        assert report.problems == []
        assert report.digest in (before, after)
    server.reset()
    assert server.run("import", path)[1] == [0]
    assert check_url(server.url).digest == after
