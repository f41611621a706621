"""Tutorials and README: every shell block runs, in order, in a copy of the repository."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.server_process import free_port

pytestmark = pytest.mark.slow

TUTORIALS = {
    "README.md": ("RESTRICTIONS  LABEL", '{"orgs":[{"sourcedId":', "Listening on"),
    "docs/tutorials/operator.md": ("The store is valid.", '{"orgs":[{"sourcedId":', "Listening on"),
    "docs/tutorials/app-developer.md": ('{"users":[{"sourcedId":', "77 users", '"title":"Quizzes"', '"changes":[{'),
}
"""Documents with shell blocks, and texts that their output must contain."""

TIMEOUT_SECONDS = 180
"""Limit for a busy machine: a document takes about 20 seconds on a quiet one."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Folder with a copy of the files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    target = tmp_path / "clone"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def shell_blocks(text: str) -> Iterator[str]:
    """Yield the shell blocks of a document, changed so that they end.

    Ports are replaced by free ones. `./run demo` does not serve, because the server would not end. `./run test` is left
    out, because these tests would start themselves.
    """
    ports = {port: str(free_port()) for port in re.findall(r"127\.0\.0\.1:(\d+)", text)}
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for port, free in ports.items():
            block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(f"--port {port}", f"--port {free}")
        block = re.sub(r"^\./run demo$", "./run demo --no-serve", block, flags=re.MULTILINE)
        yield re.sub(r"^\./run test$", "", block, flags=re.MULTILINE)


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which `python3` is this Python, and pip uses the packages that are installed here."""
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("CHALK_", "PIP_", "PYTEST_"))
    }
    return inherited | {
        "HOME": str(home),
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_COMPILE": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # a quirk of pip: 0 means no isolation
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages")),
    }


@pytest.mark.parametrize("name", TUTORIALS)
def test_shell_blocks_run_in_order(name: str, clone: Path, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(shell_blocks((clone / name).read_text(encoding="utf-8")))
    with (tmp_path / "output.txt").open("w+") as file:  # a pipe would stay open for as long as the server runs
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=clone,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout=TIMEOUT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left of the group
                os.killpg(process.pid, signal.SIGKILL)  # a server that the script left behind
            process.wait()
            file.seek(0)
            output = file.read()
            print(output)  # noqa: T201  pytest shows it if the test fails
    assert process.returncode == 0
    for expected in TUTORIALS[name]:
        assert expected in output, f"{expected!r} is missing"
