"""Rates, percentiles and whole collections of the service over those of each rival.

The servers take turns in an order that rotates with each round. A ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar

from bench.figures import Figure
from bench.load_generator import Load, measure_load
from bench.reads import LoadSettings, download
from bench.rivals.contestants import QUESTIONS, Contestant, check_responses, own_requests, rival_contestant
from bench.rivals.data import choose_sample, read_users
from bench.rivals.installation import Rival, cache_folder, install_rivals
from bench.servers import chalk_server, cpu_seconds, process_family

__all__ = ["measure_rivals"]

SMALL_DISTRICT_RIVALS: Final[frozenset[Rival]] = frozenset({"json-server"})
"""Rivals that keep everything in memory, and are compared on a smaller district."""
SMALL_DISTRICT_USERS: Final = 20_000
ONE, ALL_CORES = "one process", "all cores"
PERCENTILE_QUESTION: Final = "page"
COLLECTION_ROUNDS: Final = 3

Measured = TypeVar("Measured")


class _Turn(NamedTuple):
    """Load that a server bore, and the CPU time of all its processes for a request, in seconds."""

    load: Load
    cpu_seconds: float


def measure_rivals(
    names: Iterable[Rival], users: int, import_district: Callable[[int], str], folder: Path, load: LoadSettings
) -> Iterator[Figure]:
    """Install the rivals, and yield the ratios of the service over each with the same users.

    `import_district` returns the store of a district with a number of users. There are two figures of each kind: with
    one process per core, and with a single process (`.one`).
    """
    programs = install_rivals(names, cache_folder())
    small = {name: program for name, program in programs.items() if name in SMALL_DISTRICT_RIVALS}
    large = {name: program for name, program in programs.items() if name not in small}
    for group, size in ((large, users), (small, min(users, SMALL_DISTRICT_USERS))):
        if group:
            with tempfile.TemporaryDirectory(dir=folder) as own_folder:
                yield from _measure_group(import_district(size), group, Path(own_folder), load)


def _measure_group(
    storage: str, programs: Mapping[Rival, Path | None], folder: Path, load: LoadSettings
) -> Iterator[Figure]:
    with ExitStack() as stack:
        one = stack.enter_context(chalk_server(storage, "--processes", "1"))
        users = read_users(one)
        sample = choose_sample(users)
        requests = own_requests(sample)
        processes = max(2, os.cpu_count() or 1)
        own = [
            Contestant(ALL_CORES, stack.enter_context(chalk_server(storage, "--processes", str(processes))), *requests),
            Contestant(ONE, one, *requests),
        ]
        rivals = [
            stack.enter_context(rival_contestant(name, program, users, sample, own[0], folder / name))
            for name, program in programs.items()
        ]
        del users
        for contestant in (*own, *rivals):
            check_responses(contestant)
        for question in QUESTIONS:
            yield from _compare_question(question, own, rivals, load)
        yield from _compare_collections(own, rivals, min(load.rounds, COLLECTION_ROUNDS))


def _compare_question(
    question: str, own: Sequence[Contestant], rivals: Sequence[Contestant], load: LoadSettings
) -> Iterator[Figure]:
    def measure(contestant: Contestant) -> _Turn:
        paths, started, before = contestant.requests[question], time.perf_counter(), _cpu_seconds(contestant)
        measured = measure_load(load.tool, contestant.server, paths, load.connections, load.seconds)
        requests = measured.rate * (time.perf_counter() - started)
        return _Turn(measured, (_cpu_seconds(contestant) - before) / requests)

    rounds = _take_turns([*own, *rivals], measure, load.rounds)
    for rival in rivals:
        for contestant in own:
            name = f"rivals.{rival.name}.{question}" + _suffix(contestant)
            pairs = [(turn[contestant.name], turn[rival.name]) for turn in rounds]
            ratios = sorted(first.load.rate / second.load.rate for first, second in pairs)
            rates = [median(pair[side].load.rate for pair in pairs) for side in range(2)]
            costs = [median(pair[side].cpu_seconds for pair in pairs) * 1e6 for side in range(2)]
            note = f"{rates[0]:,.0f} responses/s of {contestant.name} over {rates[1]:,.0f}"
            note += f" ({ratios[0]:.3g} to {ratios[-1]:.3g}); {costs[0]:,.0f} µs of CPU each over {costs[1]:,.0f}"
            yield Figure(name, median(ratios), note)
    if question == PERCENTILE_QUESTION:
        yield from _compare_percentiles(rounds, own, rivals)


def _compare_percentiles(
    rounds: Sequence[Mapping[str, _Turn]], own: Sequence[Contestant], rivals: Sequence[Contestant]
) -> Iterator[Figure]:
    for rival in rivals:
        for contestant in own:
            pairs = [(turn[contestant.name].load.p99_seconds, turn[rival.name].load.p99_seconds) for turn in rounds]
            times = [median(pair[side] for pair in pairs) * 1e3 for side in range(2)]
            note = f"{times[0]:.1f} ms of {contestant.name} over {times[1]:.1f}, 99th percentile of random pages"
            ratio = median(first / second for first, second in pairs)
            yield Figure(f"rivals.{rival.name}.p99" + _suffix(contestant), ratio, note)


def _compare_collections(own: Sequence[Contestant], rivals: Sequence[Contestant], count: int) -> Iterator[Figure]:
    def measure(contestant: Contestant) -> float:
        return download(contestant.server, contestant.collection)[1]

    rounds = _take_turns([*own, *rivals], measure, count)
    for rival in rivals:
        for contestant in own:
            pairs = [(turn[contestant.name], turn[rival.name]) for turn in rounds]
            times = [median(pair[side] for pair in pairs) for side in range(2)]
            note = f"{times[0]:.3f} s of {contestant.name} for the whole collection, {times[1]:.3f} s of the rival"
            ratio = median(second / first for first, second in pairs)
            yield Figure(f"rivals.{rival.name}.collection" + _suffix(contestant), ratio, note)


def _cpu_seconds(contestant: Contestant) -> float:
    return sum(cpu_seconds(pid) for pid in process_family(contestant.server.pid))


def _suffix(contestant: Contestant) -> str:
    return ".one" if contestant.name == ONE else ""


def _take_turns(
    contestants: Sequence[Contestant], measure: Callable[[Contestant], Measured], rounds: int
) -> list[dict[str, Measured]]:
    """Return the measurement of each contestant by its name, for each round. One more round before warms up."""
    results: list[dict[str, Measured]] = []
    for number in range(rounds + 1):
        start = number % len(contestants)
        order = [*contestants[start:], *contestants[:start]]
        results.append({contestant.name: measure(contestant) for contestant in order})
    return results[1:]
