"""What is measured. Each ratio is the median of rounds in which both sides take turns, since machines drift."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote

from bench.figures import Figure
from bench.load import Maker, rate
from bench.processes import Failed, Server, growth_meanwhile

__all__ = ["Effort", "bodies", "growth", "reads", "stream", "walk"]

STUDENTS = "&filter=" + quote("role='student'", safe="")


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure."""

    maker: Maker
    rounds: int
    connections: int
    seconds: float

    def rate(self, server: Server, path: str) -> float:
        """Answers a second."""
        return rate(self.maker, server, path, self.connections, self.seconds)

    def in_turn(self, first: tuple[Server, str], second: tuple[Server, str]) -> list[tuple[float, float]]:
        """The rates of two, round by round, once both are warm."""
        for server, path in (first, second):
            rate(self.maker, server, path, self.connections, min(self.seconds, 1))
        return [(self.rate(*first), self.rate(*second)) for _ in range(self.rounds)]


def paths(server: Server) -> dict[str, str]:
    """The reads by name, with ids that the server itself gives."""
    answer, _ = server.get("/users?limit=1")
    total = int(answer.headers["X-Total-Count"])
    answer, _ = server.get(f"/users?limit=1{STUDENTS}")
    students = int(answer.headers["X-Total-Count"])
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


def bodies(server: Server, folder: Path) -> dict[str, str]:
    """Write what each read answers into a file of its name, and give the paths."""
    found = paths(server)
    folder.mkdir()
    for name, path in found.items():
        (folder / name).write_bytes(server.get(path)[1])
    return found


def reads(server: Server, yardstick: Server, found: dict[str, str], effort: Effort) -> Iterator[Figure]:
    """For each read the rate over that of a server which sends the same bytes ready-made."""
    for name, path in found.items():
        turns = effort.in_turn((server, path), (yardstick, f"/{name}"))
        ours, theirs = median(turn[0] for turn in turns), median(turn[1] for turn in turns)
        size = len(server.get(path)[1])
        note = f"{ours:,.0f} answers/s over {theirs:,.0f} ready-made, {size:,} bytes"
        yield Figure(name, median(a / b for a, b in turns), note)


def stream(server: Server, yardstick: Server, rounds: int) -> Iterator[Figure]:
    """The whole collection of users in one answer, over a stream of as many bytes."""
    answer, _ = server.get("/users?limit=1")
    path = f"/users?limit={answer.headers['X-Total-Count']}"
    size, _ = _drained(server, path)
    turns, grown = [], []
    for _ in range(rounds):
        (_, ours), growth_mb = growth_meanwhile(server, lambda: _drained(server, path))
        turns.append((size / ours, size / _drained(yardstick, f"/stream/{size}")[1]))
        grown.append(growth_mb)
    ours, theirs = (median(turn[side] for turn in turns) / 1e6 for side in range(2))
    note = f"{ours:,.0f} MB/s over {theirs:,.0f} for {size / 1e6:,.1f} MB"
    yield Figure("stream", median(a / b for a, b in turns), note)
    yield Figure("stream.memory", max(grown), "MiB by which the server grew meanwhile")


def _drained(server: Server, path: str) -> tuple[int, float]:
    """Bytes and seconds of one answer, read as fast as it comes and not looked at."""
    lines = [f"GET {server.path}{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in server.headers.items()]
    buffer, received = bytearray(1 << 20), 0
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        while count := connection.recv_into(buffer):
            if not received and not buffer.startswith(b"HTTP/1.1 200 "):
                raise Failed(f"GET {path}: {bytes(buffer[:300])!r}")
            received += count
    return received, time.perf_counter() - began


def walk(server: Server) -> Iterator[Figure]:
    """The whole collection page by page: is everybody there, and are late pages as quick as early ones."""
    connection = server.connect()
    total = int(server.get("/users?limit=1", connection)[0].headers["X-Total-Count"])
    size = max(10, min(1000, total // 30))
    seen: set[str] = set()
    times: list[float] = []
    for offset in range(0, total, size):
        began = time.perf_counter()
        _, body = server.get(f"/users?limit={size}&offset={offset}", connection)
        times.append(time.perf_counter() - began)
        seen.update(user["sourcedId"] for user in json.loads(body)["users"])
    connection.close()
    few = max(3, len(times) // 10)
    late, early = median(times[-few - 1 : -1]), median(times[1 : few + 1])
    yield Figure("walk.missing", total - len(seen), f"of {total:,} users on {len(times)} pages of {size}")
    yield Figure("walk.late_over_early", late / early, f"{late * 1e3:.1f} ms a page late, {early * 1e3:.1f} ms early")


def growth(small: Server, large: Server, effort: Effort) -> Iterator[Figure]:
    """For each read the time on a large roster over that on a small one."""
    large_paths = paths(large)
    for name, path in paths(small).items():
        turns = effort.in_turn((small, path), (large, large_paths[name]))
        slow, quick = median(turn[1] for turn in turns), median(turn[0] for turn in turns)
        yield Figure(f"growth.{name}", median(a / b for a, b in turns), f"{quick:,.0f} and {slow:,.0f} answers/s")
