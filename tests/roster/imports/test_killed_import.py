"""An import that is killed leaves the roster as it was or as it was to be, and a store that simply opens."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends import open_store, store_exists
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.verify.checker import IntegrityReport, check_store, empty_report
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.packages import Made
from tests.support.paths import ROOT

KILLS = 50
MOST = 200
"""Imports that are begun at most: some are over before they are killed."""
FRESH = 5
"""Every so many kills, the store begins empty."""

USERS = 1000

ENVIRON = os.environ | {"PYTHONPATH": str(ROOT)}


def package(version: str, gone: range) -> Made:
    """A package whose versions differ in every second user, and in who has left."""
    made = Made().set("orgs", "org-3", name=f"School {version}")
    like = made.row("users", "pupil-2")
    for number in range(USERS):
        if number not in gone:
            name = version if number % 2 else "Same"
            made.rows["users"].append(like | {"sourcedId": f"u-{number}", "username": f"u{number}", "givenName": name})
    return made


@dataclass
class Trial:
    """A store, the package that is to come next, and the digests before and after it."""

    url: str
    paths: dict[str, Path]
    digests: dict[str, str]
    now: str = "empty"

    @property
    def following(self) -> str:
        return {"empty": "a", "a": "a, b", "a, b": "b, a", "b, a": "a, b"}[self.now]

    def command(self) -> list[str]:
        path = self.paths[self.following[-1]]
        return [sys.executable, "-m", "chalk_flask", "import", str(path), "--storage", self.url]

    def look(self, before: IntegrityReport) -> IntegrityReport:
        """Open the store, demand that it is sound and in one of two states, and remember in which."""
        found = checked(self.url)
        assert found.problems == []
        if found.state != before.state:
            assert found.digest == self.digests[self.following], f"neither {self.now!r} nor {self.following!r}"
            self.now = self.following
        return found


def checked(url: str) -> IntegrityReport:
    if not store_exists(url):
        return empty_report()
    with open_store(url, COLLECTIONS) as store:
        return check_store(store)


def digests(paths: dict[str, Path]) -> dict[str, str]:
    """The digest after each history of imports."""
    found = {"empty": empty_report().digest}
    with open_store("memory:", COLLECTIONS) as store:
        for history in ("a", "a, b", "b, a"):
            report = import_package(store, "default", paths[history[-1]], ImportOptions())
            assert report.state == "committed"
            found[history] = check_store(store).digest
    return found


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_killed_import_leaves_the_old_roster_or_the_new_one(kind: str, tmp_path: Path) -> None:
    gone = {"a": range(90), "b": range(910, USERS)}
    paths = {name: package(name, numbers).zip(tmp_path / f"{name}.zip") for name, numbers in gone.items()}
    known, chance, killed = digests(paths), random.Random(), 0
    duration = _measured(Trial(url_in(tmp_path / "measured", kind), paths, known))
    for number in range(MOST):
        if number % FRESH == 0:
            trial = Trial(url_in(tmp_path / str(number), kind), paths, known)
        before = checked(trial.url)
        with subprocess.Popen(trial.command(), env=ENVIRON, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
            try:
                process.wait(chance.uniform(0.3, 1.0) * duration)
            except subprocess.TimeoutExpired:
                process.kill()
        killed += process.returncode < 0
        duration *= 1.0 if process.returncode < 0 else 0.9  # the machine was slower when it was measured
        trial.look(before)
        if killed == KILLS:
            break
    assert killed == KILLS


def _measured(trial: Trial) -> float:
    start = time.monotonic()
    subprocess.run(trial.command(), env=ENVIRON, stdout=subprocess.DEVNULL, check=True)
    took = time.monotonic() - start
    trial.look(empty_report())
    assert trial.now == "a"
    return took
