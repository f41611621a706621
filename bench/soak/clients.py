"""Clients of the soak test: readers, a reader of whole collections, a grade tool and uploads of packages."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.access import create_line_item
from bench.servers import BenchmarkError, Server

__all__ = ["ClientResults", "running_clients"]

READERS: Final = 4
PAUSE_SECONDS: Final = 0.02
WRITES_PER_SECOND: Final = 5
GRADES: Final = 1000
SECONDS_BETWEEN_STREAMS: Final = 5.0
SECONDS_BETWEEN_IMPORTS: Final = 60.0
IMPORTS_PATH: Final = "/api/admin/v1/imports"
SAMPLED_IDS: Final = 1000


@dataclass
class ClientResults:
    """Reads as pairs of seconds since the start and duration, counts of the other requests, and failures."""

    reads: list[tuple[float, float]] = field(default_factory=list)
    streams: int = 0
    writes: int = 0
    imports: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def running_clients(
    server: Server, uploader: Server, packages: Sequence[Path], started: float
) -> Iterator[ClientResults]:
    """Run all clients until the block ends, and yield their results so far. `uploader` may import packages."""
    clients = _Clients(server, uploader, packages, started)
    threads = [threading.Thread(target=clients.repeat, args=(client,)) for client in clients.all()]
    for thread in threads:
        thread.start()
    try:
        yield clients.results
    finally:
        clients.finished.set()
        for thread in threads:
            thread.join()


class _Clients:
    """Clients that share a list of paths and the results."""

    def __init__(self, server: Server, uploader: Server, packages: Sequence[Path], started: float) -> None:
        self.finished = threading.Event()
        self.results = ClientResults()
        self._server = server
        self._uploader = uploader
        self._packages = packages
        self._started = started
        self._total = int(server.get("/users?limit=1")[0].headers["X-Total-Count"])
        self._users = _ids(server, "users")
        self._classes = _ids(server, "classes")

    def all(self) -> list[Callable[[], None]]:
        """Return the functions that run a client until the end; each is called again after an error."""
        return [*[self._read] * READERS, self._stream, self._write, self._import]

    def repeat(self, client: Callable[[], None]) -> None:
        """Run a client until the end. After an error, note it and start the client again."""
        while not self.finished.is_set():
            try:
                client()
            except (BenchmarkError, OSError, http.client.HTTPException) as error:
                self.results.failures.append(f"{client.__name__}: {type(error).__name__}: {error}"[:300])
                self.finished.wait(1)

    def _read(self) -> None:
        choice = random.Random(threading.get_ident())
        with closing(self._server.connect()) as connection:
            while not self.finished.wait(PAUSE_SECONDS):
                path, started = self._random_path(choice), time.perf_counter()
                self._server.get(path, connection)
                ended = time.perf_counter()
                self.results.reads.append((ended - self._started, ended - started))

    def _random_path(self, choice: random.Random) -> str:
        offset = choice.randrange(self._total)
        return choice.choice(
            (
                f"/users/{choice.choice(self._users)}",
                f"/users?limit=100&offset={offset}",
                f"/users?limit=100&offset={offset // 2}&filter=role%3D%27student%27",
                f"/users?limit=100&offset={offset}&sort=familyName",
                f"/classes/{choice.choice(self._classes)}/students",
            )
        )

    def _stream(self) -> None:
        while not self.finished.wait(SECONDS_BETWEEN_STREAMS):
            self._server.get(f"/users?limit={self._total}")
            self.results.streams += 1

    def _write(self) -> None:
        put_result, _ = create_line_item(self._server)
        with closing(self._server.connect()) as connection:
            while not self.finished.wait(1 / WRITES_PER_SECOND):
                if (status := put_result(connection, self.results.writes % GRADES)) not in (200, 201):
                    raise BenchmarkError(f"PUT of a result: {status}")
                self.results.writes += 1

    def _import(self) -> None:
        while not self.finished.wait(SECONDS_BETWEEN_IMPORTS if self.results.imports else 1):
            package = self._packages[self.results.imports % len(self._packages)]
            job = _upload(self._uploader, package.read_bytes())
            while (state := _job_state(self._uploader, job)) not in ("finished committed", "finished unchanged"):
                if not state.startswith(("queued", "running")):
                    raise BenchmarkError(f"the import of {package.name} is {state}")
                if self.finished.wait(0.5):
                    return
            self.results.imports += 1


def _ids(server: Server, collection: str) -> list[str]:
    records = json.loads(server.get(f"/{collection}?limit={SAMPLED_IDS}&fields=sourcedId")[1])[collection]
    return [record["sourcedId"] for record in records]


def _upload(server: Server, package: bytes) -> str:
    """Upload a package and return the id of its job."""
    with closing(server.connect()) as connection:
        connection.request("POST", IMPORTS_PATH, package, dict(server.headers))
        response = connection.getresponse()
        body = response.read()
    if response.status != 202:
        raise BenchmarkError(f"POST {IMPORTS_PATH}: {response.status} {body[:300]!r}")
    return str(json.loads(body)["job"])


def _job_state(server: Server, job: str) -> str:
    """Return the state of a job and that of its report."""
    fields = json.loads(server.get(f"{IMPORTS_PATH}/{job}")[1])
    return f"{fields['state']} {(fields.get('report') or {}).get('state', '')}".strip()
