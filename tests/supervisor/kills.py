"""Kills of serving processes under load: `python -m tests.supervisor.kills --kills 200` prints what clients saw.

Readers, writers and apps send requests all the time. Meanwhile a random serving process is killed with SIGKILL again
and again; sometimes all of them at once. Each complete response must be the right one, each acknowledged write must be
stored, and the service must answer new connections soon.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from bench.district import write_package
from bench.servers import CHALK, run_command
from tests.supervisor.clients import IMS, Api, AppClient, Client, Reader, Response, Tally, Writer, run_steps
from tests.support.processes.supervised_service import (
    SupervisedService,
    connection_to_each,
    supervised_service,
    wait_patiently,
)

__all__ = ["main"]

READERS, WRITERS = 3, 2
CALM_SECONDS: Final = (0.0, 0.4)
"""Minimum and maximum time from the recovery after a kill to the next kill."""
SHARE_OF_TOTAL_KILLS: Final = 0.1
"""Share of the kills that hit all serving processes at once."""


@click.command(help=__doc__)
@click.option("--kills", default=200, show_default=True, help="Number of times that processes are killed.")
@click.option("--processes", default=2, show_default=True, help="Number of serving processes.")
@click.option("--users", default=3000, show_default=True, help="Users of the district.")
@click.option("--seconds", default=2.0, show_default=True, help="Time after which it must answer; 0: any.")
@click.option("--seed", default=1, show_default=True, help="Seed of the random choices.")
def main(kills: int, processes: int, users: int, seconds: float, seed: int) -> None:
    """Run the kills, print the figures as JSON, and exit with 1 if a promise was broken."""
    with tempfile.TemporaryDirectory(prefix="chalk-kills-") as name:
        figures = run_kills(Path(name), kills, processes, users, random.Random(seed))
    click.echo(json.dumps(figures, indent=1))
    too_late = seconds and figures["answered_seconds"]["max"] > seconds
    sys.exit(bool(figures["wrong"] or figures["lost"] or figures["refused"] or too_late))


def run_kills(folder: Path, kills: int, processes: int, users: int, rng: random.Random) -> dict[str, Any]:
    """Serve a district in the folder, kill its processes, and return the figures."""
    write_package(users, folder / "district.zip")
    storage = ("--storage", str(folder / "chalk.db"))
    run_command(*CHALK, "import", folder / "district.zip", *storage)
    token = _create("token", "--scope", "all", *storage)["token"]
    revoked = _create("token", *storage)
    client = _create("client", *storage)
    tally = Tally()
    with supervised_service(folder, "--processes", str(processes), "--log-level", "warning") as service:
        run_command(*CHALK, "token", "revoke", revoked["id"], *storage)
        with closing(Api(service.port, tally)) as api:
            expected = _read_all(api, token, users)
        credentials = {name: client[name] for name in ("client_id", "client_secret")}
        readers = [Reader(Api(service.port, tally), token, expected, rng) for _ in range(READERS)]
        writers = [Writer(Api(service.port, tally), token, f"writer-{number}", tally) for number in range(WRITERS)]
        orgs = f"{IMS}/orgs"
        app = AppClient(Api(service.port, tally), credentials, revoked["token"], orgs, expected[orgs])
        clients: list[Client] = [*readers, *writers, app]
        with _running(clients):
            times = [_kill(service, processes, rng) for _ in range(kills)]
        lost = [key for writer in writers for key in writer.lost()]
        for each in clients:
            each.api.close()
        service.process.terminate()
        exit_code = service.process.wait(60)
    run_command(*CHALK, "check", *storage)
    answered, replaced = zip(*times, strict=True)
    return {
        "kills": kills,
        "processes": processes,
        "complete": tally.complete,
        "cut": tally.cut,
        "refused": tally.refused,
        "wrong": len(tally.wrong),
        "wrong_examples": tally.wrong[:20],
        "lost": lost,
        "exit_code": exit_code,
        "answered_seconds": _summary(answered),
        "replaced_seconds": _summary(replaced),
        "load_average": os.getloadavg()[0],
    }


def _create(kind: str, *options: str) -> Any:
    return run_command(*CHALK, kind, "create", "--label", "kills", "--json", *options).json


def _read_all(api: Api, token: str, users: int) -> dict[str, Response]:
    """Return the responses that the readers compare: pages, single records, a search and a collection."""
    ids = [f"/users?limit=100&offset={offset}" for offset in range(0, users, max(1, users // 5))]
    paths = ["/orgs", *ids, "/users?filter=role%3D'teacher'&limit=50", "/classes?sort=title&limit=50"]
    expected = {path: _read(api, token, path) for path in [f"{IMS}{path}" for path in paths]}
    page = json.loads(expected[f"{IMS}{ids[0]}"][1])["users"]
    paths = [*(f"/users/{user['sourcedId']}" for user in page[:10]), f"/users?limit={users}"]
    return expected | {f"{IMS}{path}": _read(api, token, f"{IMS}{path}") for path in paths}


def _read(api: Api, token: str, path: str) -> Response:
    found = api.request("GET", path, token)
    assert found is not None
    assert found[0] == 200, found
    return found


@contextmanager
def _running(clients: Sequence[Client]) -> Iterator[None]:
    is_over = threading.Event()
    threads = [threading.Thread(target=run_steps, args=(client.step, is_over)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _kill(service: SupervisedService, processes: int, rng: random.Random) -> tuple[float, float]:
    """Kill one process or all. Return the seconds until the next answer, and until as many processes answer again."""
    time.sleep(rng.uniform(*CALM_SECONDS))
    pids = service.pids()
    victims = pids if rng.random() < SHARE_OF_TOTAL_KILLS else [rng.choice(pids)]
    started = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    _wait_for_answer(service)
    answered = time.monotonic() - started
    wait_patiently(lambda: len(service.pids()) == processes and not {*victims} & {*service.pids()})
    with connection_to_each(service.port, service.pids()):
        return answered, time.monotonic() - started


def _wait_for_answer(service: SupervisedService) -> None:
    """Wait until a request over a new connection is answered. The first ones may break with the process."""
    probe = Tally()
    while not probe.complete:
        api = Api(service.port, probe)
        api.request("GET", "/healthz")
        api.close()


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {"median": round(ordered[len(ordered) // 2], 3), "max": round(ordered[-1], 3)}


if __name__ == "__main__":
    main()
