"""Guide for tests of apps: its fixture and tests run with the client of the tutorial, also while rates are limited."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

GUIDE = ROOT / "docs" / "how-to" / "test-an-app.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "app-developer.md"

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Folder with the files that the guide and the tutorial show, and the command `chalk-flask` of this Python."""
    files = dict(
        re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    assert files.keys() == {"conftest.py", "test_roster.py"}
    [client] = re.findall(
        r"^cat >roster_client.py <<'END'\n(.*?)^END$", TUTORIAL.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    for name, text in (files | {"roster_client.py": client}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = tmp_path / "bin" / "chalk-flask"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chalk_flask "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"CHALK_RATE_LIMIT_TOKEN": "2/second"}], ids=["default", "limited"])
def test_tests_of_the_guide_pass(project: Path, settings: dict[str, str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CHALK_", "PYTEST_"))}
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=project,
        env=inherited | settings | {"PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "2 passed" in completed.stdout
