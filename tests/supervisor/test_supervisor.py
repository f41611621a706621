"""Supervisor of small programs: the end of a failed start and of a crash loop, and signals to single processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes.supervised_service import processes_of, wait_patiently

SUPERVISOR = """
import sys
from chalk_flask.supervisor import CrashLoopError, Launcher, Supervisor, open_listeners
program = compile(sys.argv[1], "program", "exec")
launcher = Launcher(lambda assignment: exec(program, {"assignment": assignment}))
supervisor = Supervisor(launcher, open_listeners("127.0.0.1", 0, 2), on_ready=lambda: print("ready", flush=True))
try:
    sys.exit(supervisor.run())
except CrashLoopError as error:
    print(error)
    sys.exit(9)
"""
SERVING = """
import signal, sys, time
from chalk_flask.supervisor import Report
supervisor = assignment.connect()
supervisor.watch()
"""
STEADY = """
supervisor.report(Report.READY)
while True:
    time.sleep(0.2)
    supervisor.report(Report.ALIVE)
"""
STEADY_WITHOUT_SECOND = """
while assignment.slot == 1:
    time.sleep(1)
"""
CRASH_WHEN_FILE_EXISTS = """
import os
supervisor.report(Report.READY)
while not os.path.exists(os.environ["CRASH_FILE"]):
    time.sleep(0.05)
sys.exit(7)
"""
SLOW_TO_STOP = """
signals = []
def on_signal(*_):
    supervisor.report(Report.STOPPING)
    signals.append(1)
    if len(signals) > 1:
        sys.exit()
signal.signal(signal.SIGTERM, on_signal)
"""


@contextmanager
def supervisor_of(program: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a supervisor of two processes that run a program, and kill it in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, program],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.slow
def test_first_start_that_fails_ends_with_the_exit_code_of_the_process() -> None:
    with supervisor_of("raise SystemExit(2)") as process:
        assert process.wait(60) == 2
        assert "ready" not in output_of(process)


@pytest.mark.slow
def test_crash_loop_ends_the_service_with_a_message(tmp_path: Path) -> None:
    program = SERVING + CRASH_WHEN_FILE_EXISTS
    with supervisor_of(program, CRASH_FILE=str(tmp_path / "crash")) as process:
        wait_until_ready(process)
        (tmp_path / "crash").touch()
        assert process.wait(60) == 9
        output = output_of(process)
    assert "5 serving processes ended within 10 seconds of their start, the last one with exit code 7: " in output


@pytest.mark.slow
def test_process_that_dies_before_the_others_serve_is_replaced() -> None:
    with supervisor_of(SERVING + STEADY_WITHOUT_SECOND + STEADY) as process:
        wait_until_ready(process)
        wait_patiently(lambda: len(processes_of(process.pid)) == 2)
        former = processes_of(process.pid)
        os.kill(former[0], signal.SIGKILL)
        wait_patiently(lambda: {*processes_of(process.pid)} - {*former})
        assert len(processes_of(process.pid)) == 2
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_stopped_process_is_replaced_while_it_completes_its_requests() -> None:
    with supervisor_of(SERVING + SLOW_TO_STOP + STEADY) as process:
        wait_until_ready(process)
        wait_patiently(lambda: len(processes_of(process.pid)) == 2)
        former = processes_of(process.pid)
        os.kill(former[0], signal.SIGTERM)
        wait_patiently(lambda: len(processes_of(process.pid)) == 3)
        assert {*former} < {*processes_of(process.pid)}
        for pid in former:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_second_signal_ends_processes_that_still_work() -> None:
    with supervisor_of(SERVING + SLOW_TO_STOP + STEADY) as process:
        wait_until_ready(process)
        process.terminate()
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_systemd_is_told_about_start_reload_watchdog_and_stop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(60)
        environ = {"NOTIFY_SOCKET": server.getsockname(), "WATCHDOG_USEC": "1000000"}

        def next_state() -> str:
            while (state := server.recv(200).decode()) == "WATCHDOG=1":
                continue
            return state.partition("\n")[0]

        with supervisor_of(SERVING + STEADY, **environ) as process:
            assert next_state() == "READY=1"
            assert server.recv(200) == b"WATCHDOG=1"
            former = processes_of(process.pid)
            process.send_signal(signal.SIGHUP)
            assert [next_state(), next_state()] == ["RELOADING=1", "READY=1"]
            wait_patiently(lambda: len(processes_of(process.pid)) == 2)
            assert not {*former} & {*processes_of(process.pid)}
            process.terminate()
            assert next_state() == "STOPPING=1"
            assert process.wait(60) == 0


@pytest.mark.slow
def test_processes_end_when_the_supervisor_is_killed() -> None:
    with supervisor_of(SERVING + STEADY) as process:
        wait_until_ready(process)
        wait_patiently(lambda: len(processes_of(process.pid)) == 2)
        pids = processes_of(process.pid)
        process.kill()
        wait_patiently(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
