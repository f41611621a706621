"""Holding and approving that are killed: a package is held whole or not at all, and applied once or not at all."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from backends import Query, open_store
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.approval import ApprovalError, approve
from chalk_flask.roster.imports.hold import remove_expired
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.large_packages import people, total
from tests.support.paths import ROOT

KILLS = 20
MOST = 120
"""Trials at most: some are over before they are killed."""

# A process for each trial, without the seconds that Python takes to start: this one has everything loaded.
FORKS = """
import os, signal, sys, time
from pathlib import Path
from backends import open_store
from chalk_flask.storage import COLLECTIONS
from chalk_flask.audit.events import record_event
from chalk_flask.roster.imports.approval import ApprovalError, approve
from chalk_flask.roster.imports.importer import Options, import_package

def noted(report, transaction):
    record_event(transaction, "default", "import.approved", run=report.run)

def work(url, folder, what, run):
    options = Options(folder=Path(folder))
    with open_store(url, COLLECTIONS) as store:
        if what == "approve":
            report = approve(store, "default", run, options, also=noted)
            assert report.state == "committed", report.to_text()
        else:
            import_package(store, "default", Path(run), options)

print("ready", flush=True)
for line in sys.stdin:
    url, folder, what, run, seconds, count = line.rstrip("\\n").split("\\t")
    children = []
    for _ in range(int(count)):
        child = os.fork()
        if not child:
            try:
                work(url, folder, what, run)
                os._exit(0)
            except ApprovalError:
                os._exit(5)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(6)
        children.append(child)
    began, codes = time.monotonic(), []
    for child in children:
        done, status = (0, 0)
        while not done and time.monotonic() - began < float(seconds):
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.0005)
        if not done:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        codes.append(os.waitstatus_to_exitcode(status))
    print(time.monotonic() - began, *codes, flush=True)
"""


@dataclass
class Place:
    """A store with a roster, the folder of what is held for it, and a process that works on them when told to."""

    home: Path
    kind: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return url_in(self.home / "now", self.kind)

    @property
    def options(self) -> ImportOptions:
        return ImportOptions(folder=self.home / "now" / "imports")

    @property
    def files(self) -> list[str]:
        """What is held, whole or not."""
        own = self.home / "now" / "imports" / "default"
        return sorted(path.name for path in own.iterdir() if path.name != ".lock") if own.is_dir() else []

    def save(self) -> None:
        shutil.copytree(self.home / "now", self.home / "saved")

    def reset(self) -> None:
        shutil.rmtree(self.home / "now")
        shutil.copytree(self.home / "saved", self.home / "now")

    def work(self, what: str, run: object, seconds: float = 60.0, count: int = 1) -> tuple[float, list[int]]:
        """How long it took, and the exit codes: 5 for ApprovalError, below 0 for a killed one."""
        assert self.process.stdin
        assert self.process.stdout
        words = (self.url, self.options.folder, what, run, seconds, count)
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        took, *codes = self.process.stdout.readline().split()
        return float(took), list(map(int, codes))


@contextmanager
def place(home: Path, kind: str) -> Iterator[Place]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        command, env=environ, cwd=home, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield Place(home, kind, process)
        finally:
            process.kill()


@pytest.fixture(params=["json", "sqlite"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store of many users."""
    (tmp_path / "now").mkdir()
    with place(tmp_path, request.param) as made:
        with open_store(made.url, COLLECTIONS) as store:
            import_package(store, "default", total(400).zip(tmp_path / "first.zip"), made.options)
        yield made


def trials(there: Place, what: str, run: object) -> Iterator[None]:
    """Work that is killed at a random moment, again and again, from the same beginning."""
    chance, killed = random.Random(), 0
    duration, codes = there.work(what, run)
    assert codes == [0]
    for _ in range(MOST):
        there.reset()
        _, [code] = there.work(what, run, chance.uniform(0.02, 1.1) * duration)
        assert code in (0, -9)
        killed += code == -9
        duration *= 1.05 if code else 0.9  # the machine may be slower or quicker than when it was measured
        yield
        if killed == KILLS:
            return
    pytest.fail(f"only {killed} of {MOST} were killed in time")


def test_an_approval_that_is_killed_is_applied_once_or_can_be_tried_again(there: Place, tmp_path: Path) -> None:
    path = people(range(300), other=range(150)).zip(tmp_path / "second.zip")
    with open_store(there.url, COLLECTIONS) as store:
        before = check_store(store).digest
        run = import_package(store, "default", path, there.options).run
    with open_store("memory:", COLLECTIONS) as store:
        for each in (tmp_path / "first.zip", path):
            import_package(store, "default", each, ImportOptions(thresholds=DISABLED))
        after = check_store(store).digest
    there.save()
    seen = set()
    for _ in trials(there, "approve", run):
        with open_store(there.url, COLLECTIONS) as store:
            with store.read("default") as snapshot:
                found = history.find_run(snapshot, run)
            assert found
            seen.add(found.state)
            if found.state == "held":
                assert f"{run}.zip" in there.files
                assert check_store(store).digest == before
                assert approve(store, "default", run, there.options).state == "committed"
            else:
                assert found.state == "committed"
                with store.read("default") as snapshot:
                    assert snapshot.find(Query("audit")).body().count(b'"import.approved"') == 1
                with pytest.raises(ApprovalError):
                    approve(store, "default", run, there.options)
            checked = check_store(store)
            assert (checked.digest, checked.problems) == (after, [])
            remove_expired(store, there.options.folder)
            assert there.files == []
    assert "held" in seen


def test_holding_that_is_killed_leaves_a_whole_held_package_or_nothing(there: Place, tmp_path: Path) -> None:
    path = people(range(300), other=range(150)).zip(tmp_path / "second.zip")
    there.save()
    with open_store(there.url, COLLECTIONS) as store:
        before = check_store(store).state
    for _ in trials(there, "import", path):
        with open_store(there.url, COLLECTIONS) as store:
            assert check_store(store).state == before
            with store.read("default") as snapshot:
                held = [run for run in history.list_runs(snapshot, tmp_path / "none", "default") if run.state == "held"]
            assert len(held) <= 1
            assert {f"{run.id}.zip" for run in held} <= set(there.files)
            remove_expired(store, there.options.folder)
            assert there.files == [f"{run.id}.zip" for run in held]
            for run in held:
                content = (tmp_path / "now" / "imports" / "default" / f"{run.id}.zip").read_bytes()
                assert sha256(content).hexdigest() == run.held_sha256 == run.sha256
                assert content == path.read_bytes()


def test_of_many_who_approve_at_once_one_does(there: Place, tmp_path: Path) -> None:
    path = people(range(300)).zip(tmp_path / "second.zip")
    with open_store(there.url, COLLECTIONS) as store:
        run = import_package(store, "default", path, there.options).run
    there.save()
    for _ in range(5):
        there.reset()
        assert sorted(there.work("approve", run, count=4)[1]) == [0, 5, 5, 5]
        with open_store(there.url, COLLECTIONS) as store, store.read("default") as snapshot:
            assert snapshot.find(Query("audit")).body().count(b'"import.approved"') == 1
        assert there.files == []


def test_a_package_that_many_import_at_once_is_held_once(there: Place, tmp_path: Path) -> None:
    path = people(range(300)).zip(tmp_path / "second.zip")
    assert there.work("import", path, count=4)[1] == [0, 0, 0, 0]
    with open_store(there.url, COLLECTIONS) as store, store.read("default") as snapshot:
        [held] = [run for run in history.list_runs(snapshot, tmp_path / "none", "default") if run.state == "held"]
    assert there.files == [f"{held.id}.zip"]
