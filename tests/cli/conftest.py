"""Fixtures that run commands in an empty folder, without CHALK_ variables of the environment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner

from backends import open_store
from chalk_flask.cli import main
from chalk_flask.storage import COLLECTIONS
from tests.support.paths import ROOT

SAMPLE = Path(str(files("chalk_flask") / "demo"))
"""Package with the sample district."""

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")} | {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class CommandResult:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """JSON object on stdout."""
        data = json.loads(self.out)
        assert isinstance(data, dict)
        return data


RunCommand: TypeAlias = Callable[..., CommandResult]
StartCommand: TypeAlias = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """RunCommand a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(ENVIRON):
        monkeypatch.delenv(name)

    def execute(*args: str | Path, env: dict[str, str] | None = None, stdin: bytes | None = None) -> CommandResult:
        result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, env=env, prog_name="chalk-flask")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return execute


@pytest.fixture(scope="session")
def _new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "chalk.db"
    open_store(f"sqlite:///{path}", COLLECTIONS).close()
    return path


@pytest.fixture
def empty_store(tmp_path: Path, _new_store: Path) -> Path:
    """Path of a store without records, the default store of commands: most commands create none."""
    return Path(shutil.copy(_new_store, tmp_path / "chalk.db"))


@pytest.fixture
def start(tmp_path: Path) -> StartCommand:
    """StartCommand a command as a process of its own; it is killed in the end if it is still there."""

    @contextmanager
    def process(
        *args: str | Path, env: dict[str, str] | None = None, stdin: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *map(str, args)],
            cwd=tmp_path,
            env=ENVIRON | (env or {}),
            text=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            try:
                yield child
            finally:
                if child.poll() is None:
                    child.kill()

    return process


def stop_process(process: subprocess.Popen[str]) -> int:
    """Send SIGTERM and return the exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


def get_json(url: str, token: str) -> dict[str, list[dict[str, object]]]:
    """Send a request with the token and return the response body."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as response:
        body: dict[str, list[dict[str, object]]] = json.load(response)
    return body
