"""Rates, percentiles and whole collections of the service over those of each other server.

A round measures each server once, in an order that rotates. A ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar

from bench.charts import check_plot_library, write_comparison_chart
from bench.comparison.data import choose_sample, read_users
from bench.comparison.installation import ServerName, cache_folder, install_servers
from bench.comparison.servers import RECORD_COUNTS, ComparedServer, check_responses, compared_server, own_requests
from bench.figures import Figure
from bench.load_generator import Load, measure_load
from bench.reads import LoadSettings, download
from bench.servers import chalk_server, cpu_seconds, process_family

__all__ = ["measure_comparison"]

SMALL_DISTRICT_SERVERS: Final[frozenset[ServerName]] = frozenset({"json-server"})
"""Servers that keep everything in memory, and are compared on a smaller district."""
SMALL_DISTRICT_USERS: Final = 20_000
ONE, ALL_CORES = "one process", "one process per core"
PERCENTILE_KIND: Final = "page"
COLLECTION_ROUNDS: Final = 3

Measured = TypeVar("Measured")


class _Measurement(NamedTuple):
    """Load that a server bore, and the CPU time of all its processes for a request, in seconds."""

    load: Load
    cpu_seconds: float


def measure_comparison(
    names: Iterable[ServerName],
    users: int,
    import_district: Callable[[int], str],
    folder: Path,
    load: LoadSettings,
    plot: Path | None = None,
) -> Iterator[Figure]:
    """Install the other servers, and yield the ratios of the service over each with the same users.

    `import_district` returns the store of a district with a number of users. There are two figures of each kind: with
    one process per core, and with a single process (`.one`). The plot shows the rates of all.
    """
    if plot:
        check_plot_library()
    rates: dict[str, dict[str, float]] = {}
    programs = install_servers(names, cache_folder())
    small = {name: program for name, program in programs.items() if name in SMALL_DISTRICT_SERVERS}
    large = {name: program for name, program in programs.items() if name not in small}
    for group, size in ((large, users), (small, min(users, SMALL_DISTRICT_USERS))):
        if group:
            with tempfile.TemporaryDirectory(dir=folder) as own_folder:
                yield from _measure_group(import_district(size), group, Path(own_folder), load, rates)
    if plot:
        write_comparison_chart(plot, rates)


def _measure_group(
    storage: str,
    programs: Mapping[ServerName, Path | None],
    folder: Path,
    load: LoadSettings,
    all_rates: dict[str, dict[str, float]],
) -> Iterator[Figure]:
    with ExitStack() as stack:
        one = stack.enter_context(chalk_server(storage, "--processes", "1"))
        users = read_users(one)
        sample = choose_sample(users)
        requests = own_requests(sample)
        all_cores = stack.enter_context(chalk_server(storage, "--processes", str(max(2, os.cpu_count() or 1))))
        own = [ComparedServer(ALL_CORES, all_cores, *requests), ComparedServer(ONE, one, *requests)]
        others = [
            stack.enter_context(compared_server(name, program, users, sample, own[0], folder / name))
            for name, program in programs.items()
        ]
        del users
        for server in (*own, *others):
            check_responses(server)
        for kind in RECORD_COUNTS:
            yield from _compare_rates(kind, own, others, load, all_rates.setdefault(kind, {}))
        yield from _compare_collections(own, others, min(load.rounds, COLLECTION_ROUNDS))


def _compare_rates(
    kind: str,
    own: Sequence[ComparedServer],
    others: Sequence[ComparedServer],
    load: LoadSettings,
    all_rates: dict[str, float],
) -> Iterator[Figure]:
    def measure(compared: ComparedServer) -> _Measurement:
        paths, started, before = compared.requests[kind], time.perf_counter(), _cpu_seconds(compared)
        measured = measure_load(load.tool, compared.server, paths, load.connections, load.seconds)
        requests = measured.rate * (time.perf_counter() - started)
        return _Measurement(measured, (_cpu_seconds(compared) - before) / requests)

    rounds = _measure_rounds([*own, *others], measure, load.rounds)
    for server in (*own, *others):
        label = f"Chalk Flask, {server.name}" if server in own else server.name
        all_rates.setdefault(label, median(measured[server.name].load.rate for measured in rounds))
    for other, compared in product(others, own):
        pairs = [(measured[compared.name], measured[other.name]) for measured in rounds]
        ratios = sorted(first.load.rate / second.load.rate for first, second in pairs)
        rates = [median(pair[side].load.rate for pair in pairs) for side in range(2)]
        costs = [median(pair[side].cpu_seconds for pair in pairs) * 1e6 for side in range(2)]
        note = f"{rates[0]:,.0f} responses/s with {compared.name}, {rates[1]:,.0f} of {other.name}"
        note += f" ({ratios[0]:.3g} to {ratios[-1]:.3g}); {costs[0]:,.0f} µs of CPU per request, {costs[1]:,.0f}"
        yield Figure(_figure_name(other, kind, compared), median(ratios), note)
    if kind == PERCENTILE_KIND:
        yield from _compare_percentiles(rounds, own, others)


def _compare_percentiles(
    rounds: Sequence[Mapping[str, _Measurement]], own: Sequence[ComparedServer], others: Sequence[ComparedServer]
) -> Iterator[Figure]:
    for other, compared in product(others, own):
        pairs = [(each[compared.name].load.p99_seconds, each[other.name].load.p99_seconds) for each in rounds]
        times = [median(pair[side] for pair in pairs) * 1e3 for side in range(2)]
        note = f"99th percentile of pages: {times[0]:.1f} ms with {compared.name}, {times[1]:.1f} of {other.name}"
        yield Figure(_figure_name(other, "p99", compared), median(first / second for first, second in pairs), note)


def _compare_collections(
    own: Sequence[ComparedServer], others: Sequence[ComparedServer], count: int
) -> Iterator[Figure]:
    def measure(compared: ComparedServer) -> float:
        return download(compared.server, compared.collection)[1]

    rounds = _measure_rounds([*own, *others], measure, count)
    for other, compared in product(others, own):
        pairs = [(measured[compared.name], measured[other.name]) for measured in rounds]
        times = [median(pair[side] for pair in pairs) for side in range(2)]
        note = f"{times[0]:.3f} s with {compared.name}, {times[1]:.3f} s of {other.name}"
        ratio = median(second / first for first, second in pairs)
        yield Figure(_figure_name(other, "collection", compared), ratio, note)


def _cpu_seconds(compared: ComparedServer) -> float:
    return sum(cpu_seconds(pid) for pid in process_family(compared.server.pid))


def _figure_name(other: ComparedServer, kind: str, own: ComparedServer) -> str:
    return f"comparison.{other.name}.{kind}" + (".one" if own.name == ONE else "")


def _measure_rounds(
    servers: Sequence[ComparedServer], measure: Callable[[ComparedServer], Measured], rounds: int
) -> list[dict[str, Measured]]:
    """Return the measurements of each round by name of the server. One more round before warms up."""
    results: list[dict[str, Measured]] = []
    for number in range(rounds + 1):
        start = number % len(servers)
        order = [*servers[start:], *servers[:start]]
        results.append({server.name: measure(server) for server in order})
    return results[1:]
