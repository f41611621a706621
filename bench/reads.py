"""Reads of the API. Each ratio is the median of rounds in which both sides alternate, because machines drift."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import quote

from bench.figures import Figure
from bench.load_generator import LoadTool, request_rate
from bench.servers import BenchmarkError, Server, chalk_server, cpu_seconds_per_request, memory_growth

__all__ = [
    "LoadSettings",
    "download",
    "measure_growth",
    "measure_observability",
    "measure_processes",
    "measure_reads",
    "measure_stream",
    "measure_walk",
    "save_bodies",
]

STUDENTS: Final = "&filter=" + quote("role='student'", safe="")


@dataclass(frozen=True)
class LoadSettings:
    """Load generator, rounds per pair, concurrent connections, and seconds per measurement."""

    tool: LoadTool
    rounds: int
    connections: int
    seconds: float

    def rate(self, server: Server, path: str) -> float:
        """Return the responses per second."""
        return request_rate(self.tool, server, path, self.connections, self.seconds)

    def alternate(self, first: tuple[Server, str], second: tuple[Server, str]) -> list[tuple[float, float]]:
        """Return the rates of two servers in each round, after a warm-up of both."""
        for server, path in (first, second):
            request_rate(self.tool, server, path, self.connections, min(self.seconds, 1))
        return [(self.rate(*first), self.rate(*second)) for _ in range(self.rounds)]


def read_paths(server: Server) -> dict[str, str]:
    """Return the measured paths by name, with ids from the server."""
    response, _ = server.get("/users?limit=1")
    total = int(response.headers["X-Total-Count"])
    response, _ = server.get(f"/users?limit=1{STUDENTS}")
    students = int(response.headers["X-Total-Count"])
    user = json.loads(server.get(f"/users?limit=1&offset={total // 3}")[1])["users"][0]
    klass = json.loads(server.get("/classes?limit=1&offset=7")[1])["classes"][0]
    return {
        "get": f"/users/{user['sourcedId']}",
        "page0": "/users?limit=100&offset=0",
        "deep": f"/users?limit=100&offset={total * 9 // 10}",
        "filter": f"/users?limit=100&offset=0{STUDENTS}",
        "filterdeep": f"/users?limit=100&offset={students * 9 // 10}{STUDENTS}",
        "sort": "/users?limit=100&offset=0&sort=familyName&orderBy=desc",
        "fields": "/users?limit=100&offset=0&fields=sourcedId,givenName,familyName,role",
        "classstudents": f"/classes/{klass['sourcedId']}/students",
        "schoolstudents": f"/schools/{klass['school']['sourcedId']}/students?limit=100&offset=0",
    }


def save_bodies(server: Server, folder: Path) -> dict[str, str]:
    """Write the response body of each read into a file of its name; return the paths by name."""
    paths = read_paths(server)
    folder.mkdir()
    for name, path in paths.items():
        (folder / name).write_bytes(server.get(path)[1])
    return paths


def measure_reads(server: Server, baseline: Server, paths: dict[str, str], load: LoadSettings) -> Iterator[Figure]:
    """Yield the rate of each read over the rate of a server that sends the same bytes from memory."""
    for name, path in paths.items():
        rounds = load.alternate((server, path), (baseline, f"/{name}"))
        own_rate, baseline_rate = median(pair[0] for pair in rounds), median(pair[1] for pair in rounds)
        size = len(server.get(path)[1])
        note = f"{own_rate:,.0f} responses/s over {baseline_rate:,.0f} from memory, {size:,} bytes"
        yield Figure(name, median(own / base for own, base in rounds), note)


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
        servers, path = (without, with_metrics, with_log), read_paths(without)["get"]
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
        paths = read_paths(one)
        for name in ("get", "page0"):
            rounds = load.alternate((two, paths[name]), (one, paths[name]))
            rates = [median(side) for side in zip(*rounds, strict=True)]
            note = f"{rates[0]:,.0f} responses/s of two processes over {rates[1]:,.0f} of one, load by {load.tool}"
            yield Figure(f"processes.{name}", median(own / base for own, base in rounds), note)


def measure_growth(small: Server, large: Server, load: LoadSettings) -> Iterator[Figure]:
    """Yield the time of each read on a large roster over that on a small one."""
    large_paths = read_paths(large)
    for name, path in read_paths(small).items():
        rounds = load.alternate((small, path), (large, large_paths[name]))
        small_rate, large_rate = median(pair[0] for pair in rounds), median(pair[1] for pair in rounds)
        note = f"{small_rate:,.0f} and {large_rate:,.0f} responses/s"
        yield Figure(f"growth.{name}", median(first / second for first, second in rounds), note)
