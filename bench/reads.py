"""Reads of the API. Each ratio is the median of rounds in which both sides alternate, because machines drift."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias
from urllib.parse import quote

from bench.charts import check_plot_library, write_growth_chart
from bench.figures import TARGETS_BY_PREFIX, Figure
from bench.load_generator import Load, LoadTool, measure_load
from bench.servers import BenchmarkError, Server, chalk_server, cpu_seconds_per_request, memory_growth

__all__ = [
    "LoadSettings",
    "body_file_name",
    "choose_paths",
    "download",
    "measure_growth",
    "measure_observability",
    "measure_processes",
    "measure_reads",
    "measure_stream",
    "measure_walk",
    "save_bodies",
]

STUDENTS: Final = "filter=" + quote("role='student'", safe="")
MAX_IDS: Final = 500
MAX_PAGES: Final = 50
SEED: Final = 13
WARM_UP_REQUESTS: Final = 5
"""Requests of each path before a measurement of a second or longer."""


@dataclass(frozen=True)
class LoadSettings:
    """Load generator, rounds per pair, concurrent connections, and seconds per measurement."""

    tool: LoadTool
    rounds: int
    connections: int
    seconds: float

    def alternate(self, *sides: tuple[Server, Sequence[str]]) -> list[tuple[float, ...]]:
        """Return the rates of two or more servers in each round, after a warm-up of all."""
        return [tuple(load.rate for load in loads) for loads in self.alternate_loads(*sides)]

    def alternate_loads(self, *sides: tuple[Server, Sequence[str]]) -> list[tuple[Load, ...]]:
        """Return the loads that two or more servers bear in each round, after a warm-up of all."""
        for side in sides:
            self._warm_up(*side)
        return [tuple(self._measure(*side) for side in sides) for _ in range(self.rounds)]

    def _measure(self, server: Server, paths: Sequence[str]) -> Load:
        return measure_load(self.tool, server, paths, self.connections, self.seconds)

    def _warm_up(self, server: Server, paths: Sequence[str]) -> None:
        """Request the paths for a while. A service remembers the result of a query after some requests of each path."""
        with closing(server.connect()) as connection:
            for path in [*paths[:MAX_PAGES]] * round(WARM_UP_REQUESTS * min(self.seconds, 1)):
                server.get(path, connection)
        measure_load(self.tool, server, paths, self.connections, min(self.seconds, 1))


def choose_paths(server: Server) -> dict[str, list[str]]:
    """Return the measured paths by name, with random ids and offsets, which are the same for the same roster.

    The first path of each list is the one that `.same` figures repeat.
    """
    choice = random.Random(SEED)
    total, students = _count(server, "/users?"), _count(server, f"/users?{STUDENTS}")
    users = _sample_ids(server, "users", MAX_IDS, choice)
    classes, schools = (_sample_ids(server, name, MAX_PAGES, choice) for name in ("classes", "schools"))
    late, late_students = ([size * 9 // 10, *_late_offsets(size, choice)] for size in (total, students))
    page, fields = "/users?limit=100&offset=", "&fields=sourcedId,givenName,familyName,role"
    offsets, student_offsets = ([0, *_offsets(size, choice)] for size in (total, students))
    return {
        "get": [f"/users/{key}" for key in users],
        "page0": [f"{page}0"],
        "deep": [f"{page}{offset}" for offset in late],
        "filter": [f"{page}{offset}&{STUDENTS}" for offset in student_offsets],
        "filterdeep": [f"{page}{offset}&{STUDENTS}" for offset in late_students],
        "sort": [f"{page}{offset}&sort=familyName&orderBy=desc" for offset in offsets],
        "fields": [f"{page}{offset}{fields}" for offset in offsets],
        "classstudents": [f"/classes/{key}/students" for key in classes],
        "schoolstudents": [f"/schools/{key}/students?limit=100&offset=0" for key in schools],
    }


def _count(server: Server, path: str) -> int:
    return int(server.get(f"{path}&limit=1")[0].headers["X-Total-Count"])


def _offsets(total: int, choice: random.Random) -> list[int]:
    """Return random offsets of full pages."""
    return [choice.randrange(max(total - 99, 1)) for _ in range(MAX_PAGES - 1)]


def _late_offsets(total: int, choice: random.Random) -> list[int]:
    """Return random offsets in the last fifth."""
    return [choice.randrange(total * 4 // 5, max(total - 99, total * 4 // 5 + 1)) for _ in range(MAX_PAGES - 1)]


def _sample_ids(server: Server, collection: str, count: int, choice: random.Random) -> list[str]:
    """Return the ids of random records."""
    path = f"/{collection}?limit={_count(server, f'/{collection}?')}&fields=sourcedId"
    (records,) = json.loads(server.get(path)[1]).values()
    return [record["sourcedId"] for record in choice.choices(records, k=count)]


def save_bodies(server: Server, folder: Path) -> dict[str, list[str]]:
    """Write the response body of each path into a file; return the paths by name."""
    paths = choose_paths(server)
    folder.mkdir()
    with closing(server.connect()) as connection:
        for name, some in paths.items():
            for number, path in enumerate(some):
                (folder / body_file_name(name, number)).write_bytes(server.get(path, connection)[1])
    return paths


def body_file_name(name: str, number: int) -> str:
    """Return the name of the file with the response body of a request of this kind. Numbers begin at 0."""
    return f"{name}-{number}" if number else name


def measure_reads(
    server: Server, baseline: Server, paths: Mapping[str, Sequence[str]], load: LoadSettings
) -> Iterator[Figure]:
    """Yield the rate of each read over the rate of a server that sends the same bytes from memory.

    There are three figures for each read: with random ids and offsets, the 99th percentiles of these response times
    (`.p99`), and for one URL again and again (`.same`).
    """
    for name, some in paths.items():
        rounds = _alternate_with_baseline(name, server, baseline, some, load)
        yield _rate_figure(name, rounds, server, some)
        yield _p99_figure(name, rounds)
        if len(some) > 1:
            rounds = _alternate_with_baseline(name, server, baseline, some[:1], load)
            yield _rate_figure(f"{name}.same", rounds, server, some[:1])


_Rounds: TypeAlias = Sequence[tuple[Load, ...]]
"""Loads of the service and of the baseline in each round."""


def _alternate_with_baseline(
    name: str, server: Server, baseline: Server, paths: Sequence[str], load: LoadSettings
) -> _Rounds:
    files = [f"/{body_file_name(name, number)}" for number in range(len(paths))]
    return load.alternate_loads((server, paths), (baseline, files))


def _rate_figure(name: str, rounds: _Rounds, server: Server, paths: Sequence[str]) -> Figure:
    own_rate, baseline_rate = (median(loads[side].rate for loads in rounds) for side in range(2))
    size = len(server.get(paths[0])[1])
    urls = "1 URL" if len(paths) == 1 else f"{len(paths)} URLs"
    note = f"{own_rate:,.0f} responses/s, {baseline_rate:,.0f} from memory, {urls}, {size:,} bytes"
    return Figure(name, median(own.rate / base.rate for own, base in rounds), note)


def _p99_figure(name: str, rounds: _Rounds) -> Figure:
    own, baseline = (median(loads[side].p99_seconds for loads in rounds) * 1e3 for side in range(2))
    note = f"99th percentile of the response times: {own:.1f} ms, {baseline:.1f} ms from memory"
    return Figure(f"{name}.p99", median(own.p99_seconds / base.p99_seconds for own, base in rounds), note)


def measure_stream(server: Server, baseline: Server, rounds: int) -> Iterator[Figure]:
    """Yield the rate of the whole collection of users in one response, and the memory growth meanwhile."""
    response, _ = server.get("/users?limit=1")
    path = f"/users?limit={response.headers['X-Total-Count']}"
    size, _ = download(server, path)
    rates, growths = [], []
    for _ in range(rounds):
        (_, seconds), growth_mb = memory_growth(server, lambda: download(server, path))
        rates.append((size / seconds, size / download(baseline, f"/stream/{size}")[1]))
        growths.append(growth_mb)
    own_rate, baseline_rate = (median(pair[side] for pair in rates) / 1e6 for side in range(2))
    note = f"{own_rate:,.0f} MB/s over {baseline_rate:,.0f} for {size / 1e6:,.1f} MB"
    yield Figure("stream", median(own / base for own, base in rates), note)
    yield Figure("stream.memory", max(growths), "MiB of memory growth of the server meanwhile")


def download(server: Server, path: str) -> tuple[int, float]:
    """Read one response as fast as possible and discard it; return bytes and seconds."""
    lines = [f"GET {server.path}{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in server.headers.items()]
    buffer, received = bytearray(1 << 20), 0
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        while count := connection.recv_into(buffer):
            if not received and not buffer.startswith(b"HTTP/1.1 200 "):
                raise BenchmarkError(f"GET {path}: {bytes(buffer[:300])!r}")
            received += count
    return received, time.perf_counter() - started


def measure_walk(server: Server) -> Iterator[Figure]:
    """Yield the number of users missing from all pages, and the time of late pages over that of early pages."""
    connection = server.connect()
    total = int(server.get("/users?limit=1", connection)[0].headers["X-Total-Count"])
    size = max(10, min(1000, total // 30))
    ids: set[str] = set()
    durations: list[float] = []
    for offset in range(0, total, size):
        started = time.perf_counter()
        _, body = server.get(f"/users?limit={size}&offset={offset}", connection)
        durations.append(time.perf_counter() - started)
        ids.update(user["sourcedId"] for user in json.loads(body)["users"])
    connection.close()
    count = max(3, len(durations) // 10)
    late, early = median(durations[-count - 1 : -1]), median(durations[1 : count + 1])
    yield Figure("walk.missing", total - len(ids), f"of {total:,} users on {len(durations)} pages of {size}")
    note = f"{late * 1e3:.1f} ms per late page, {early * 1e3:.1f} ms per early page"
    yield Figure("walk.late_over_early", late / early, note)


def measure_observability(storage: str, load: LoadSettings) -> Iterator[Figure]:
    """Yield the CPU time of single reads with metrics, and with a log of all requests too, over that without both."""
    log_options = ("--log-level", "info", "--log-requests", "true")
    with (
        chalk_server(storage, "--metrics", "false") as without,
        chalk_server(storage) as with_metrics,
        chalk_server(storage, *log_options) as with_log,
    ):
        servers, path = (without, with_metrics, with_log), choose_paths(without)["get"][0]
        for server in servers:
            cpu_seconds_per_request(server, path, load.seconds)
        rounds = [
            [cpu_seconds_per_request(server, path, load.seconds / 4) for server in servers]
            for _ in range(16 * load.rounds)
        ]
    # Other programs only ever add to the CPU time of a request, so the least one is the most exact.
    base, *others = (min(side) for side in zip(*rounds, strict=True))
    for name, own in zip(("observability", "observability.log_requests"), others, strict=True):
        yield Figure(name, own / base, f"{own * 1e6:.0f} µs of CPU per read over {base * 1e6:.0f} without")


def measure_processes(storage: str, load: LoadSettings) -> Iterator[Figure]:
    """Yield the rates of single reads and pages of two processes over those of one.

    The load generator takes CPU time from both, so a light one (wrk) shows more of the gain.
    """
    with chalk_server(storage) as one, chalk_server(storage, "--processes", "2") as two:
        paths = choose_paths(one)
        for name in ("get", "page0"):
            rounds = load.alternate((two, paths[name]), (one, paths[name]))
            rates = [median(side) for side in zip(*rounds, strict=True)]
            note = f"{rates[0]:,.0f} responses/s of two processes over {rates[1]:,.0f} of one, load by {load.tool}"
            yield Figure(f"processes.{name}", median(own / base for own, base in rounds), note)


def measure_growth(servers: Mapping[int, Server], load: LoadSettings, plot: Path | None = None) -> Iterator[Figure]:
    """Yield the time of each read from the largest district over that from the smallest one.

    `servers` are services by their number of users. The plot shows the sizes between too.
    """
    if plot:
        check_plot_library()
    sizes = sorted(servers)
    paths = {size: choose_paths(servers[size]) for size in sizes}
    times: dict[str, list[float]] = {}
    for name in paths[sizes[0]]:
        rounds = load.alternate(*((servers[size], paths[size][name]) for size in sizes))
        times[name] = [median(rates[0] / rates[side] for rates in rounds) for side in range(len(sizes))]
        rates = [median(side) for side in zip(*rounds, strict=True)]
        note = ", ".join(f"{rate:,.0f} for {size:,} users" for size, rate in zip(sizes, rates, strict=True))
        yield Figure(f"growth.{name}", times[name][-1], f"responses/s: {note}")
    if plot:
        write_growth_chart(plot, sizes, times, TARGETS_BY_PREFIX["growth."].value)
