"""Commands as the first process of a container, for which Linux drops signals that have no handler."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.cli.conftest import ENVIRON
from tests.support.processes.supervised_service import PATIENCE_SECONDS, processes_of, wait_patiently

NAMESPACES = (
    ["unshare", "--pid", "--fork", "--kill-child"],
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"],
)
COMMAND = [sys.executable, "-m", "chalk_flask"]
IMITATION = """
import os, runpy, signal, sys
os.getpid = lambda: 1
sys.argv[0] = "chalk-flask"
runpy.run_module("chalk_flask", run_name="__main__")
"""


def first_process_command() -> list[str]:
    """Return the start of a command line that runs as process 1. Without namespaces, the process believes it is 1."""
    for prefix in NAMESPACES:
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return [*prefix, *COMMAND]
    return [sys.executable, "-c", IMITATION]


def test_sigterm_ends_a_first_process_that_does_not_serve_yet(tmp_path: Path) -> None:
    settings = tmp_path / "chalk.toml"
    os.mkfifo(settings)
    command = [*first_process_command(), "serve", "--config", str(settings)]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRON) as process, ExitStack() as stack:
        stack.callback(process.kill)
        wait_patiently(lambda: open_for_reader(settings, stack))
        [target] = processes_of(process.pid) or [process.pid]
        os.kill(target, signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def open_for_reader(pipe: Path, stack: ExitStack) -> bool:
    """Open a pipe for writing as soon as a process reads it, which then waits for data. Return True then."""
    try:
        stack.callback(os.close, os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True
