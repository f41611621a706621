"""Process that stops the PostgreSQL servers of a test run when the run ends, even if the run is killed.

`python end_of_run.py PID FOLDER` returns when it observes the process. A process in the background, which signals of
the terminal do not reach, then waits for the end of that process. It kills the servers below the folder, and deletes
the folder. The file imports nothing of the repository, so that it also runs as a script.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["server_pid", "stop_after", "stop_server"]

QUIT_SECONDS = 30.0
POLL_SECONDS = 0.02


def stop_after(pid: int, folder: Path) -> None:
    """Stop the servers below a folder, and delete the folder, as soon as the process has ended."""
    subprocess.run([sys.executable, __file__, str(pid), str(folder)], check=True)


def server_pid(data: Path) -> int | None:
    """Return the id of the running server of a data directory, from its file postmaster.pid."""
    try:
        pid = int((data / "postmaster.pid").read_text().split(maxsplit=1)[0])
    except (FileNotFoundError, IndexError):
        return None
    # The file of a killed server remains, and another process may have the id meanwhile.
    with suppress(OSError):
        if Path(f"/proc/{pid}/cwd").readlink() == data.resolve() and not _is_zombie(pid):
            return pid
    return None


def _fields(pid: int | str) -> list[str]:
    """Return state, parent and further fields of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    return _fields(pid)[0] in "ZX"


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.name.isdigit() and _fields(path.name)[1] == str(parent):
                found.append(int(path.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return not _is_zombie(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop_server(data: Path, *, kill: bool = False) -> None:
    """Stop the server of a data directory without a checkpoint, and return when its processes have ended.

    With `kill`, server and child processes get SIGKILL at once. Otherwise that happens after `QUIT_SECONDS`.
    """
    pid = server_pid(data)
    if pid is None:
        return
    if not kill:
        os.kill(pid, signal.SIGQUIT)
        _wait_for_end([pid], QUIT_SECONDS)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it would start further processes
        processes = [*_children(pid), pid]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _wait_for_end(processes, QUIT_SECONDS)


def _wait_for_end(processes: list[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(map(_runs, processes)) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def _stop_servers(folder: Path) -> None:
    for path in [*folder.glob("*/data/postmaster.pid"), *folder.glob("*/*/data/postmaster.pid")]:
        stop_server(path.parent)
    shutil.rmtree(folder, ignore_errors=True)


def _main(pid: int, folder: Path) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return _stop_servers(folder)
    if os.fork():
        return None
    os.setsid()
    os.chdir("/")
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(silence, descriptor)
    select.select([process], [], [])
    return _stop_servers(folder)


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
