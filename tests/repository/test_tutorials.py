"""Tutorials and README: every shell block runs, in order, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

TUTORIALS = {
    "README.md": ('{"orgs":[{"sourcedId":', "Listening on"),
    "docs/tutorials/operator.md": ("The store is valid.", '{"orgs":[{"sourcedId":', "Listening on"),
    "docs/tutorials/app-developer.md": ('{"users":[{"sourcedId":', '"title":"Quizzes"', '"changes":[{'),
}
"""Documents with shell blocks, and texts that their output must contain."""

TIMEOUT_SECONDS = 240


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def shell_blocks(text: str) -> Iterator[str]:
    """Yield the shell blocks of a document. Ports are replaced by free ones.

    `./run demo` and `./run test` only set up their environment and stop: the server would not end, and these tests
    would start themselves.
    """
    ports = {port: str(free_port()) for port in re.findall(r"127\.0\.0\.1:(\d+)", text)}
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for port, free in ports.items():
            block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(f"--port {port}", f"--port {free}")
        block = re.sub(r"^\./run demo$", "./run demo --no-serve", block, flags=re.MULTILINE)
        yield re.sub(r"^\./run test$", "./run test --version", block, flags=re.MULTILINE)


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which pip installs this repository from the packages that are installed here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHALK_", "PIP_", "PYTEST_"))}
    return kept | {
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # a quirk of pip: 0 means no isolation
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
    }


@pytest.mark.parametrize("name", TUTORIALS)
def test_shell_blocks_run_in_order(name: str, clone: Path, tmp_path: Path) -> None:
    script = "set -euo pipefail -m\n" + "\n".join(shell_blocks((clone / name).read_text(encoding="utf-8")))
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=clone,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    for expected in TUTORIALS[name]:
        assert expected in output, f"{expected!r} is missing in:\n{output}"
