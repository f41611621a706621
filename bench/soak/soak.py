"""Measurement of a soak test: start the service, run the clients, and derive the figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench.charts import check_plot_library
from bench.district import write_delta, write_package
from bench.figures import Figure
from bench.servers import CHALK, BenchmarkError, Server, chalk_server, counting_receiver, run_command
from bench.soak.clients import ClientResults, running_clients
from bench.soak.memory import MemorySample, fit_trend, period_floors, sampling_memory
from bench.soak.plot import write_plot

__all__ = ["measure_soak"]

ALLOWED: Final = ("--webhook-allowed-hosts", "127.0.0.1")
WARM_UP_SHARE: Final = 1 / 3
SLOPE_SECONDS: Final = 600


def measure_soak(
    storage: str, users: int, folder: Path, minutes: float, options: Sequence[str], plot: Path | None
) -> Iterator[Figure]:
    """Yield the slope of the memory, its size, the 99th percentile of reads, and the failed requests.

    `options` are further options of `chalk-flask serve`. The first third of the time fills caches and is not counted.
    """
    if plot:
        check_plot_library()
    packages = _write_packages(users, folder)
    with counting_receiver() as receiver:
        _create_webhook(storage, receiver)
        with chalk_server(storage, *ALLOWED, *options) as server:
            started = time.perf_counter()
            uploader = _uploader(storage, server)
            with (
                sampling_memory(server.pid, started) as samples,
                running_clients(server, uploader, packages, started) as results,
            ):
                time.sleep(minutes * 60)
            deliveries = int(receiver.get("/")[1])
    if plot:
        write_plot(plot, samples, results.reads, minutes * 60 * WARM_UP_SHARE)
    yield from _figures(samples, results, deliveries, minutes)


def _write_packages(users: int, folder: Path) -> tuple[Path, Path]:
    """Write a delta and the whole district. Imported in turn, each changes records."""
    packages = folder / "soak-delta.zip", folder / "soak-district.zip"
    write_delta(users, packages[0])
    write_package(users, packages[1], day=5)
    return packages


def _create_webhook(storage: str, receiver: Server) -> None:
    url = f"http://127.0.0.1:{receiver.port}/"
    run_command(*CHALK, "webhook", "create", "--url", url, "--mode", "per_entity", *ALLOWED, "--storage", storage)


def _uploader(storage: str, server: Server) -> Server:
    """Return the server with a token that may import, for paths outside of the OneRoster API."""
    options = ("--label", "soak", "--scope", "imports.write", "--json", "--storage", storage)
    token = run_command(*CHALK, "token", "create", *options).json["token"]
    return Server(server.pid, server.port, headers={"Authorization": f"Bearer {token}"})


def _figures(samples: list[MemorySample], results: ClientResults, deliveries: int, minutes: float) -> Iterator[Figure]:
    begin = minutes * 60 * WARM_UP_SHARE
    yield from _memory_figures(samples, begin)
    durations = sorted(seconds for at, seconds in results.reads if at >= begin)
    if not durations:
        raise BenchmarkError(f"no read got a response: {results.failures[:3]}")
    note = f"ms, 99th percentile of {len(durations):,} reads; median {durations[len(durations) // 2] * 1e3:.1f} ms"
    yield Figure("soak.p99", durations[int(len(durations) * 0.99)] * 1e3, note)
    work = f"{results.streams} streams, {results.writes} writes, {results.imports} imports, {deliveries:,} deliveries"
    first = f"; the first: {results.failures[0]}" if results.failures else ""
    yield Figure("soak.failed", len(results.failures), f"requests beside {work}{first}")


def _memory_figures(samples: list[MemorySample], begin: float) -> Iterator[Figure]:
    """Yield the slope and the size of the memory between imports, from a time in seconds on."""
    floors = period_floors([sample for sample in samples if sample.seconds >= begin] or samples[-1:])
    growth, size = fit_trend(floors).slope * SLOPE_SECONDS, median(size for _, size in floors)
    note = f"% of memory per 10 minutes: {growth:+.2f} MiB of {size:.0f}, from minute {begin / 60:.3g} on"
    yield Figure("soak.slope", growth / size * 100, note)
    peak = max(sample.serving + sample.others for sample in samples)
    note = f"MiB of {samples[-1].processes} processes between imports; {peak:.0f} at the peak beside an import"
    yield Figure("soak.memory", size, note)
