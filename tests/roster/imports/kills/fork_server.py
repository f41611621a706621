"""Process that imports or approves in forked children, which can be killed at any time.

It has everything imported, so that a trial does not wait seconds for Python to start.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalk_flask.roster.imports import ImportOptions
from tests.conftest import url_in
from tests.support.paths import ROOT

APPROVAL_ERROR_CODE = 5
KILLED_CODE = -9

_PROGRAM = """
import os, signal, sys, time
from contextlib import ExitStack
from pathlib import Path
from backends import open_store
from chalk_flask.storage import COLLECTIONS
from chalk_flask.audit.events import record_event
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.imports.approval import ApprovalError, approve
from tests.support.packages import small_first_loads, small_parsed_files

def record_approval(report, transaction):
    record_event(transaction, "default", "import.approved", run=report.run)

def work(url, folder, task, argument):
    options = ImportOptions(folder=Path(folder))
    with open_store(url, COLLECTIONS) as store:
        if task == "approve":
            report = approve(store, "default", argument, Path(folder), on_commit=record_approval)
            assert report.state == "committed", report.to_text()
        else:
            with ExitStack() as stack:
                if task.endswith("first load"):
                    stack.enter_context(small_first_loads())
                if task == "parsed first load":
                    stack.enter_context(small_parsed_files())
                import_package(store, "default", Path(argument), options)

print("ready", flush=True)
for line in sys.stdin:
    url, folder, task, argument, seconds, count = line.rstrip("\\n").split("\\t")
    children = []
    for _ in range(int(count)):
        child = os.fork()
        if not child:
            try:
                work(url, folder, task, argument)
                os._exit(0)
            except ApprovalError:
                os._exit(5)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(6)
        children.append(child)
    start, codes = time.monotonic(), []
    for child in children:
        done, status = (0, 0)
        while not done and time.monotonic() - start < float(seconds):
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.0005)
        if not done:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        codes.append(os.waitstatus_to_exitcode(status))
    print(time.monotonic() - start, *codes, flush=True)
"""


@dataclass
class ForkServer:
    """Store on disk, the folder of its held packages, and the process that works on them."""

    home: Path
    backend: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return url_in(self.home / "current", self.backend)

    @property
    def options(self) -> ImportOptions:
        return ImportOptions(folder=self.home / "current" / "imports")

    @property
    def files(self) -> list[str]:
        """Names of the files in the folder of held packages, temporary ones included."""
        folder = self.home / "current" / "imports" / "default"
        return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []

    def save(self) -> None:
        """Save the store and its folder for `reset`, and replace the previous copy."""
        shutil.rmtree(self.home / "saved", ignore_errors=True)
        shutil.copytree(self.home / "current", self.home / "saved")

    def reset(self) -> None:
        """Restore the state of the last `save`."""
        shutil.rmtree(self.home / "current")
        shutil.copytree(self.home / "saved", self.home / "current")

    def run(self, task: str, argument: object, seconds: float = 60.0, count: int = 1) -> tuple[float, list[int]]:
        """Import a path or approve a run in `count` children, and kill those that take longer than `seconds`.

        Return the duration and the exit codes.
        """
        assert self.process.stdin
        assert self.process.stdout
        words = (self.url, self.options.folder, task, argument, seconds, count)
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        duration, *codes = self.process.stdout.readline().split()
        return float(duration), list(map(int, codes))

    def kill_repeatedly(self, task: str, argument: object, kills: int) -> Iterator[None]:
        """Kill the task at random times, each time from the saved state, and yield after each trial."""
        rng, killed, max_trials = random.Random(), 0, 6 * kills
        duration, codes = self.run(task, argument)
        assert codes == [0]
        for _ in range(max_trials):
            self.reset()
            _, [code] = self.run(task, argument, rng.uniform(0.02, 1.1) * duration)
            assert code in (0, KILLED_CODE)
            killed += code == KILLED_CODE
            duration *= 1.05 if code else 0.9  # the machine may be slower or faster than at the measurement
            yield
            if killed == kills:
                return
        pytest.fail(f"only {killed} of {max_trials} were killed in time")


@contextmanager
def fork_server(home: Path, backend: str) -> Iterator[ForkServer]:
    """Start the process; the store is in the new folder `home/current`."""
    (home / "current").mkdir()
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env=environ,
        cwd=home,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield ForkServer(home, backend, process)
        finally:
            process.kill()
