"""Mixed load on one server: `python -m tests.server.loop_requests.mixed_load --minutes 5` prints the differences.

Clients send short and long reads, read slowly, pipeline and disconnect, while packages are imported. Each complete
response is compared with that of the memory backend, for the roster before or after an import that ran meanwhile.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click
from flask import Flask

from backends import copy_store, open_store
from bench.district import write_delta, write_package
from bench.servers import CHALK, run_command
from chalk_flask import create_app
from chalk_flask.permissions.scopes import ALL, ROSTER_CORE
from chalk_flask.server.loop_requests import MAX_LOOP_SECONDS
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of
from tests.server.loop_requests.load_clients import Client, Place, Sample, Tally, digest
from tests.support.api_client import CHALK as WHOLE
from tests.support.api_client import IMS
from tests.support.server_process import ServerProcess, server_process

__all__ = ["main", "run_mixed_load"]

CLIENTS: Final = ("short", "short", "short", "pipeline", "long", "slow", "gone")
PHASE_SECONDS: Final = 12.0
JOIN_SECONDS: Final = 90.0
SAMPLED_RECORDS: Final = 40
MAX_EXAMPLES: Final = 5

SETTINGS: Final = {
    "CHALK_PUBLIC_URL": "https://roster.test",
    "CHALK_QUERY_MILLISECONDS": "60000",
    "CHALK_STREAM_LIMIT_CREDENTIAL": "100",
    "CHALK_STREAM_LIMIT_ADDRESS": "100",
}
"""Settings of the server. On a busy machine it would reject some requests otherwise."""

SEARCHES: Final = (
    "/users?limit=50&filter=role%3D%27student%27",
    "/users?limit=20&sort=familyName&offset=40",
    "/users?limit=30&fields=sourcedId,familyName",
    "/users?limit=0",
    "/users?filter=wrong",
    "/users/none",
    "/classes/none/students",
    "/enrollments?limit=100&filter=role%3D%27teacher%27",
)
APP: Final = """
from chalk_flask import create_app
from chalk_flask.api.reads import request_classifier
from chalk_flask.server.loop_requests import IN_LOOP_KEY, loop_kinds

loop_kinds.MAX_LOOP_SECONDS = {long_seconds}
flask_app = create_app()

def app(environ, start_response):
    place = "loop" if IN_LOOP_KEY in environ else "thread"
    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("Ran-In", place)], exc_info)
    return flask_app(environ, start)

classify_request = request_classifier(flask_app.extensions["chalk"])
"""


@click.command(help=__doc__)
@click.option("--minutes", default=5.0, show_default=True, help="Duration of the load.")
@click.option("--users", default=2000, show_default=True, help="Users of the district.")
@click.option("--seed", default=1, show_default=True, help="Seed of the random choices.")
def main(minutes: float, users: int, seed: int) -> None:
    """Run the load, print the figures as JSON, and exit with 1 if a response was wrong or missing."""
    with tempfile.TemporaryDirectory(prefix="chalk-mixed-") as name:
        figures = run_mixed_load(Path(name), minutes * 60, users, seed)
    click.echo(json.dumps(figures, indent=1))
    sys.exit(bool(figures["differences"] or figures["failures"]))


def run_mixed_load(
    folder: Path,
    seconds: float,
    users: int,
    seed: int,
    phase_seconds: float = PHASE_SECONDS,
    long_seconds: float = MAX_LOOP_SECONDS,
) -> dict[str, Any]:
    """Serve a district in the folder under load, and return the figures."""
    storage = f"sqlite:///{folder}/chalk.db"
    for name, write in (("bulk", write_package), ("delta", write_delta)):
        write(users, folder / f"{name}.zip")
    _import(folder, storage, "bulk")
    tokens = _create_tokens(storage, folder)
    tally, comparison = Tally(), _Comparison(storage, folder)
    comparison.add_state()
    settings = {"CHALK_STORAGE": storage, "CHALK_DATA": str(folder / "data"), **SETTINGS}
    started = time.monotonic()
    with comparison, server_process(APP.format(long_seconds=long_seconds), **settings) as server:
        place = Place(server.port, tokens, *_paths(comparison.app, tokens[0]))
        while (run := time.monotonic() - started) < seconds or not tally.state:
            with _running_clients(place, tally, seed + tally.state):
                end = time.monotonic() + min(phase_seconds, max(seconds - run, 1))
                _import(folder, storage, ("delta", "bulk")[tally.state % 2])
                time.sleep(max(0, end - time.monotonic()))
            comparison.add_state()
            tally.state += 1
            comparison.check(tally)
        is_alive = _is_alive(server)
    return _figures(tally, comparison, is_alive)


class _Comparison:
    """Applications with the memory backend, one for each of the last states of the roster."""

    def __init__(self, storage: str, folder: Path) -> None:
        self._storage, self._folder = storage, folder
        self._apps: dict[int, Flask] = {}
        self._expected: dict[tuple[int, str, str, str], bytes] = {}
        self.compared = 0
        self.differences: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for app in self._apps.values():
            _close(app)

    @property
    def app(self) -> Flask:
        """Application with the last state."""
        return self._apps[max(self._apps)]

    def add_state(self) -> None:
        """Copy the present state. States before the former one are forgotten."""
        settings = {"public_url": "https://roster.test", "data": str(self._folder / "memory")}
        app = create_app(storage="memory:", **settings)
        with closing(open_store(self._storage, COLLECTIONS)) as store:
            copy_store(store, services_of(app).store)
        self._apps[max(self._apps, default=-1) + 1] = app
        for number in sorted(self._apps)[:-3]:
            _close(self._apps.pop(number))
        self._expected = {key: value for key, value in self._expected.items() if key[0] in self._apps}

    def check(self, tally: Tally) -> None:
        """Compare the responses so far."""
        samples, tally.samples = tally.samples, []
        for sample in samples:
            numbers = range(max(sample.first_state, min(self._apps)), min(sample.last_state, max(self._apps)) + 1)
            if not any(self._expect(number, sample) == sample.digest for number in numbers):
                self.differences.append(f"{sample.method} {sample.path}: {sample.status}")
        self.compared += len(samples)

    def _expect(self, number: int, sample: Sample) -> bytes:
        key = (number, sample.token, sample.method, sample.path)
        if key not in self._expected:
            headers = {"Authorization": f"Bearer {sample.token}", "Host": "roster.test"}
            response = self._apps[number].test_client().open(sample.path, method=sample.method, headers=headers)
            self._expected[key] = digest(response.status_code, list(response.headers), response.data)
        return self._expected[key]


@contextmanager
def _running_clients(place: Place, tally: Tally, seed: int) -> Iterator[None]:
    is_over = threading.Event()
    clients = [Client(kind, place, tally, seed * len(CLIENTS) + number, is_over) for number, kind in enumerate(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        is_over.set()
        end = time.monotonic() + JOIN_SECONDS
        for client in clients:
            client.join(max(0, end - time.monotonic()))
            if client.is_alive():
                tally.failures.append(f"{client.name}: no response in {JOIN_SECONDS:g} s")


def _paths(app: Flask, token: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return paths of short reads, and of long ones."""
    short = [f"{IMS}{path}" for path in SEARCHES]
    for collection in ("users", "classes", "enrollments", "orgs"):
        path = f"{IMS}/{collection}?limit={SAMPLED_RECORDS}&offset=7"
        response = app.test_client().get(path, headers={"Authorization": f"Bearer {token}", "Host": "roster.test"})
        ids = [record["sourcedId"] for record in json.loads(response.data)[collection]]
        short += [f"{IMS}/{collection}/{quote(key, safe='')}" for key in ids]
        short += [f"{IMS}/{collection}?limit={limit}&offset={limit * 3}" for limit in (1, 25, 100, 150)]
        if collection == "classes":
            short += [f"{IMS}/classes/{key}/students" for key in ids[:20]]
    long = [f"{WHOLE}/users", f"{WHOLE}/enrollments", f"{IMS}/users?limit=100000&sort=familyName"]
    return short, [*long, f"{IMS}/users?limit=100&filter=familyName~%27a%27", f"{WHOLE}/classes"]


def _figures(tally: Tally, comparison: _Comparison, is_alive: bool) -> dict[str, Any]:
    seconds = sorted(tally.seconds)
    return {
        "compared": comparison.compared,
        "differences": len(comparison.differences),
        "examples": comparison.differences[:MAX_EXAMPLES],
        "failures": tally.failures + ([] if is_alive else ["the server has ended"]),
        "in_loop": tally.places.get("loop", 0),
        "in_threads": tally.places.get("thread", 0),
        "disconnects": tally.disconnects,
        "imports": tally.state,
        "short_p50_ms": round(seconds[len(seconds) // 2] * 1000, 2),
        "short_p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1000, 2),
    }


def _is_alive(server: ServerProcess) -> bool:
    with suppress(OSError):
        server.get("/healthz")
        return server.process.poll() is None
    return False


def _import(folder: Path, storage: str, name: str) -> None:
    run_command(*CHALK, "import", folder / f"{name}.zip", "--storage", storage, "--data", folder / "data")


def _create_tokens(storage: str, folder: Path) -> list[str]:
    """Return two tokens with different scopes."""
    app = create_app(storage=storage, data=str(folder / "data"))
    tokens = [services_of(app).tokens.create("load", scopes)[0] or "" for scopes in (ALL, [ROSTER_CORE])]
    _close(app)
    return tokens


def _close(app: Flask) -> None:
    services_of(app).access_log.close()
    services_of(app).store.close()


if __name__ == "__main__":
    main()
