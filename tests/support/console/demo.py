"""The demo as a new user starts it, and other commands that serve until they are stopped."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import CLEAN_ENVIRON
from tests.support.paths import ROOT

__all__ = ["RunningDemo", "run_demo", "run_until_printed"]

START_SECONDS = 60
"""Limit for a busy machine."""

_PRINTED = r"admin console in a browser:\n\n +address +(\S+)/\n +name +(\S+)\n +password +(\S+)"


@dataclass(frozen=True)
class RunningDemo:
    """What the command `demo` prints: the URL of the service, and name and password of its administrator."""

    url: str
    name: str
    password: str


@contextmanager
def run_demo(folder: Path, port: int = 0) -> Iterator[RunningDemo]:
    """Run `chalk-flask demo` in a folder until the block ends. Port 0 chooses a free one."""
    with run_until_printed(folder, _PRINTED, "demo", "--port", str(port)) as printed:
        yield RunningDemo(*printed.groups())


@contextmanager
def run_until_printed(folder: Path, pattern: str, *args: str) -> Iterator[re.Match[str]]:
    """Run a command in a folder until the block ends. Yield the match of a pattern in what it prints."""
    path = folder / "output.txt"  # a pipe that is not read fills up and blocks the demo
    with (
        path.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *args],
            cwd=folder,
            env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield _wait_for(path, pattern, process)
            process.terminate()
            assert process.wait(90) == 0
        finally:
            process.kill()


def _wait_for(path: Path, pattern: str, process: subprocess.Popen[bytes]) -> re.Match[str]:
    for _ in range(START_SECONDS * 10):
        text = path.read_text()
        if found := re.search(pattern, text):
            return found
        assert process.poll() is None, text
        time.sleep(0.1)
    raise AssertionError(f"the command does not print {pattern!r}: {path.read_text()}")
