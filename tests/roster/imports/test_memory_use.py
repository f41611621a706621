"""Peak memory of an import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packages import PackageBuilder
from tests.support.paths import ROOT

USERS = 20_000
MAX_PEAK_MB = 160

# Not ru_maxrss: a new process inherits the value of its parent.
IMPORT_AND_PRINT_PEAK = """
import sys
from pathlib import Path
from chalk_flask.cli import main
try:
    main(sys.argv[1:])
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def large_package() -> PackageBuilder:
    """Return a package of 20,000 users with seven enrollments each."""
    package = PackageBuilder()
    user, enrollment = package.row("users", "pupil-2"), package.row("enrollments", "enr-1")
    for number in range(USERS):
        key = f"user-{number:08}"
        package.rows["users"].append(
            user | {"sourcedId": key, "username": f"name{number}", "email": f"{key}@x.example"}
        )
        package.rows["enrollments"] += [
            enrollment | {"sourcedId": f"{key}-{part}", "userSourcedId": key} for part in range(7)
        ]
    return package


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak of a process")
def test_memory_does_not_grow_with_the_package(tmp_path: Path) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for state in ("Imported.", "Nothing to do"):
        command = [
            sys.executable,
            "-c",
            IMPORT_AND_PRINT_PEAK,
            "import",
            str(path),
            "--storage",
            f"sqlite:///{tmp_path}/chalk.db",
        ]
        completed = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert state in completed.stdout
        assert int(completed.stderr) / 1024 < MAX_PEAK_MB, state
