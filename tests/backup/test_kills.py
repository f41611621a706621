"""Restores that are killed: the former or the new state, never a mixture."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.slow
@pytest.mark.on_backend("json", "sqlite")
def test_restore_killed_at_any_step_leaves_old_or_new(tmp_path: Path, backend: str) -> None:
    program = [sys.executable, "-m", "tests.backup.kill_at_each_step", str(tmp_path), backend]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    states = literal_eval(done.stdout)
    assert states.keys() == {"old,old", "new,new"}
    assert states["old,old"] > 5
    assert states["new,new"] >= 5
