"""What the console costs others: reads of the API beside an import, CPU time of each request, and memory of uploads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from bench.console.browser import Browser
from bench.console.packages import write_padded_package
from bench.console.preparation import ALLOWED
from bench.district import write_delta, write_package
from bench.figures import Figure
from bench.load_generator import response_times
from bench.reads import LoadSettings
from bench.servers import BenchmarkError, Server, chalk_server, cpu_seconds_per_request, memory_growth

__all__ = ["measure_api_cost", "measure_import", "measure_upload"]

PATH: Final = "/users?limit=100&offset=0"
READERS: Final = 4
UPLOAD_BYTES: Final = 60_000_000


def measure_upload(server: Server, browser: Browser, users: int, folder: Path) -> Iterator[Figure]:
    """Yield the memory growth of the server while it receives a package of 60 MB, in MB."""
    write_package(users, folder / "package.zip")
    package = write_padded_package(folder / "package.zip", folder / "padded.zip", UPLOAD_BYTES)
    job, growth = memory_growth(server, lambda: browser.upload(package, "dry_run"))
    browser.wait_for(job)
    note = f"MB of memory growth of the server at most, while it receives {package.stat().st_size / 1e6:.0f} MB"
    yield Figure("console.upload", growth * (1 << 20) / 1e6, note)


def measure_import(server: Server, browser: Browser, users: int, folder: Path, load: LoadSettings) -> Iterator[Figure]:
    """Yield the 99th percentile of a page of the API beside an import of the console, over that before it.

    The import compares every record of the district, and undoes a delta.
    """
    write_delta(users, folder / "delta.zip")
    write_package(users, folder / "later.zip", day=2)
    browser.wait_for(browser.upload(folder / "delta.zip", "import"))
    calm = response_times(server, PATH, READERS, _until(time.perf_counter() + 2 * load.seconds))
    job = browser.upload(folder / "later.zip", "import")
    started = time.perf_counter()
    beside = response_times(server, PATH, READERS, lambda: browser.is_running(job))
    seconds = time.perf_counter() - started
    note = (
        f"99th percentile: {_p99(beside) * 1e3:.1f} ms beside an import of {seconds:.0f} s, {_p99(calm) * 1e3:.1f} ms"
        " before it"
    )
    yield Figure("console.import", _p99(beside) / _p99(calm), note)


def measure_api_cost(storage: str, load: LoadSettings) -> Iterator[Figure]:
    """Yield the CPU time of API requests of a server with the console, over that of one without it."""
    with (
        chalk_server(storage, *ALLOWED) as with_console,
        chalk_server(storage, *ALLOWED, "--console", "false") as without_console,
    ):
        servers = (with_console, without_console)
        for server in servers:
            cpu_seconds_per_request(server, PATH, load.seconds)
        rounds = [
            [cpu_seconds_per_request(server, PATH, load.seconds) for server in servers] for _ in range(2 * load.rounds)
        ]
    own, other = (median(pair[side] for pair in rounds) * 1e3 for side in range(2))
    note = f"{own:.3f} ms of CPU per request with the console, {other:.3f} ms without"
    yield Figure("console.api", median(pair[0] / pair[1] for pair in rounds), note)


def _until(end: float) -> Callable[[], bool]:
    return lambda: time.perf_counter() < end


def _p99(sorted_times: list[float]) -> float:
    if not sorted_times:
        raise BenchmarkError("no read got a response")
    return sorted_times[int(len(sorted_times) * 0.99)]
