"""An import takes the memory of its pieces, not of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packages import Made
from tests.support.paths import ROOT

USERS = 20_000
MOST_MB = 160

# Not ru_maxrss: a new process inherits that of the one that started it.
MEASURED = """
import sys
from pathlib import Path
from chalk_flask.cli import main
try:
    main(sys.argv[1:])
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def large() -> Made:
    """Twenty thousand users with seven enrollments each."""
    made = Made()
    user, enrollment = made.row("users", "pupil-2"), made.row("enrollments", "enr-1")
    for number in range(USERS):
        key = f"user-{number:08}"
        made.rows["users"].append(user | {"sourcedId": key, "username": f"name{number}", "email": f"{key}@x.example"})
        made.rows["enrollments"] += [
            enrollment | {"sourcedId": f"{key}-{part}", "userSourcedId": key} for part in range(7)
        ]
    return made


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process")
def test_memory_stays_flat_in_the_size_of_the_package(tmp_path: Path) -> None:
    path = large().zip(tmp_path / "package.zip")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for state in ("Imported.", "Nothing to do"):
        command = [sys.executable, "-c", MEASURED, "import", str(path), "--storage", f"sqlite:///{tmp_path}/chalk.db"]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert state in ran.stdout
        assert int(ran.stderr) / 1024 < MOST_MB, state
