"""Commands as a script runs them: in a folder of their own, without anybody's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner

from chalk_flask.cli import main
from tests.support.paths import ROOT

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")} | {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        data = json.loads(self.out)
        assert isinstance(data, dict)
        return data


Run: TypeAlias = Callable[..., Ran]
Start: TypeAlias = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(ENVIRON):
        monkeypatch.delenv(name)

    def ran(*words: str | Path, env: dict[str, str] | None = None) -> Ran:
        result = CliRunner().invoke(main, [str(word) for word in words], env=env, prog_name="chalk-flask")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return ran


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a command as a process of its own; it is killed in the end if it is still there."""

    @contextmanager
    def started(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "chalk_flask", *map(str, words)]
        with subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRON, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    return started
