"""Processes of the benchmark: commands that run to their end, servers, and their memory."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeVar

__all__ = [
    "API_ROOT",
    "BASELINE",
    "CHALK",
    "TIMEOUT_SECONDS",
    "BenchmarkError",
    "CompletedCommand",
    "Server",
    "baseline_server",
    "chalk_server",
    "counting_receiver",
    "cpu_seconds",
    "cpu_seconds_per_request",
    "external_server",
    "free_port",
    "memory_growth",
    "process_family",
    "run_command",
]

ROOT: Final = Path(__file__).resolve().parent.parent
API_ROOT: Final = "/ims/oneroster/v1p1"
CHALK: Final = (sys.executable, "-m", "chalk_flask")
RECEIVER: Final = (sys.executable, "-m", "bench.receiver")
BASELINE: Final = (sys.executable, "-m", "bench.baselines")
TIMEOUT_SECONDS: Final = 600.0
STOP_TIMEOUT_SECONDS: Final = 60.0
MEMORY_POLL_SECONDS: Final = 0.01
FAMILY_POLL_SECONDS: Final = 0.05

Result = TypeVar("Result")


class BenchmarkError(Exception):
    """Error for a measurement that failed."""


@dataclass(frozen=True)
class CompletedCommand:
    """Result of a command: seconds, peak memory in MiB with that of its child processes, and standard output."""

    seconds: float
    peak_mb: float
    output: str

    @property
    def json(self) -> Any:
        """Output parsed as JSON."""
        return json.loads(self.output)


@dataclass(frozen=True)
class Server:
    """Running server, with the path prefix and the headers of requests to it."""

    pid: int
    port: int
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that stays open between requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)

    def get(
        self, path: str, connection: http.client.HTTPConnection | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the response to a GET and its body. Raises BenchmarkError unless it is 200."""
        used_connection = connection or self.connect()
        used_connection.request("GET", self.path + path, headers=dict(self.headers))
        response = used_connection.getresponse()
        body = response.read()
        if connection is None:
            used_connection.close()
        if response.status != 200:
            raise BenchmarkError(f"GET {path}: {response.status} {body[:300]!r}")
        return response, body


def run_command(*args: str | Path) -> CompletedCommand:
    """Run a command to its end. Raises BenchmarkError if its exit code is not 0."""
    started = time.perf_counter()
    with _start_process(*args) as process, _watched_memory(process.pid) as peak:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        command = " ".join(map(str, args[:4]))
        raise BenchmarkError(f"{command} exited with {process.returncode}: {output[:2000]}")
    return CompletedCommand(seconds, max(usage.ru_maxrss / 1024, peak[0]), output)


@contextmanager
def _watched_memory(pid: int) -> Iterator[list[float]]:
    """Yield a list with the largest memory of a process and its descendants so far, in MiB."""
    peak, finished = [0.0], threading.Event()

    def watch() -> None:
        while not finished.wait(FAMILY_POLL_SECONDS):
            peak[0] = max(peak[0], _family_memory_mb(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        finished.set()
        watcher.join()


def _family_memory_mb(pid: int) -> float:
    """Return the resident memory of a process, and that of its descendants without shared pages of files."""
    total = 0.0
    for member in process_family(pid):
        with suppress(OSError):
            status = Path(f"/proc/{member}/status").read_text(encoding="utf-8")
            match = re.search(r"VmRSS:\s+(\d+)" if member == pid else r"RssAnon:\s+(\d+)", status)
            total += int(match[1]) / 1024 if match else 0.0
    return total


@contextmanager
def chalk_server(storage: str, *options: str) -> Iterator[Server]:
    """Run the service with one process, unless an option says otherwise; its requests carry a token that reads all."""
    token = run_command(
        *CHALK, "token", "create", "--label", "benchmark", "--scope", "all", "--json", "--storage", storage
    )
    headers = {"Authorization": f"Bearer {token.json['token']}"}
    command = (*CHALK, "serve", "--port", "0", "--processes", "1", "--storage", storage, "--log-level", "warning")
    with _start_process(*command, *options, stderr=subprocess.PIPE) as process, _terminate_at_end(process):
        port = int(_wait_for_line(process.stderr, r"Listening on http://[^ ]*:(\d+)"))
        threading.Thread(target=_discard, args=(process.stderr,), daemon=True).start()
        yield Server(process.pid, port, API_ROOT, headers)


@contextmanager
def baseline_server(folder: Path) -> Iterator[Server]:
    """Run a server that sends the files of a folder from memory."""
    with _start_process(*BASELINE, "serve", folder) as process, _terminate_at_end(process):
        yield Server(process.pid, int(_wait_for_line(process.stdout, r"^(\d+)$")))


@contextmanager
def counting_receiver() -> Iterator[Server]:
    """Run a webhook receiver that returns the number of deliveries to a GET."""
    with _start_process(*RECEIVER) as process, _terminate_at_end(process):
        yield Server(process.pid, int(_wait_for_line(process.stdout, r"^(\d+)$")))


@contextmanager
def external_server(
    command: Sequence[str | Path], port: int, log: Path, path: str = "", headers: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a program that listens on a port, and yield it when it accepts connections. Its output goes to the log."""
    with (
        log.open("wb") as output,
        _start_process(*command, stdout=output, stderr=output) as process,
        _terminate_at_end(process),
    ):
        end = time.monotonic() + STOP_TIMEOUT_SECONDS
        while not _accepts_connections(port):
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"{command[0]} does not listen: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield Server(process.pid, port, path, headers or {})


def free_port() -> int:
    """Return a port that is free now, for a program that cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def memory_growth(server: Server, work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of the work and the largest memory growth of the server meanwhile, in MiB."""
    before = _anonymous_memory_mb(server.pid)
    peak, finished = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(MEMORY_POLL_SECONDS):
            peak = max(peak, _anonymous_memory_mb(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
    finally:
        finished.set()
        watcher.join()
    return result, peak - before


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, without its children."""
    # The number that clock_getcpuclockid(3) of Linux returns, whose times are more exact than those of /proc.
    return time.clock_gettime(~pid << 3 | 2)


def process_family(pid: int) -> Iterator[int]:
    """Yield the process and its descendants. A process may end meanwhile."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield from process_family(int(child))


def cpu_seconds_per_request(server: Server, path: str, seconds: float) -> float:
    """Return the CPU time that a server needs for one of many GETs of a path, which are sent one after the other."""
    with closing(server.connect()) as connection:
        server.get(path, connection)
        count, end, before = 0, time.perf_counter() + seconds, cpu_seconds(server.pid)
        while not count or time.perf_counter() < end:
            server.get(path, connection)
            count += 1
        return (cpu_seconds(server.pid) - before) / count


def _anonymous_memory_mb(pid: int) -> float:
    """Return the resident memory without shared pages of files."""
    match = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(match[1]) / 1024 if match else 0.0


def _start_process(
    *args: str | Path, stdout: int | IO[bytes] = subprocess.PIPE, stderr: int | IO[bytes] | None = None
) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    return subprocess.Popen(
        [str(argument) for argument in args],
        cwd=ROOT,
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


@contextmanager
def _terminate_at_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _discard(stream: IO[str] | None) -> None:
    """Read the log of a server to its end, because the server waits when the pipe is full."""
    assert stream is not None
    for _ in stream:
        pass


def _wait_for_line(stream: IO[str] | None, pattern: str) -> str:
    assert stream is not None
    lines = []
    for line in stream:
        if match := re.search(pattern, line):
            return match[1]
        lines.append(line)
    raise BenchmarkError(f"a server ended before it listened: {''.join(lines)[-2000:]}")
