"""Rounds of backups: `python -m tests.backup.rounds --backend sqlite --rounds 50` prints how many broke a promise.

`chalk-flask serve` has clients that read all the time, a grade tool that writes, and a process that imports. Meanwhile
each round backs the store up and restores the archive elsewhere. The restored store must be in the state of one
commit, which has everything that was acknowledged before the backup began. At the end, the audit events of each
restored store must be the first ones of the live store: no commit of the sequence is missing.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from backends import Backend, open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.backup import ArchiveReader, create_backup, restore_backup
from chalk_flask.permissions.scopes import ALL
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.settings import Settings, load_settings
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants import TenantStore
from tests.support.packages import delta_package, package_with_users, small_row
from tests.support.paths import ROOT
from tests.support.processes.supervised_service import supervised_service

API: Final = "/ims/oneroster/v1p1"
USERS: Final = 200
"""Users that each import renames. A store with two names has half an import."""
CATEGORIES: Final = 20
"""Categories that the grade tool writes in turn, each with the number of the write as its title."""
READS: Final = ("/users?limit=100", "/users?limit=1000&sort=givenName", "/categories?limit=100", "/users/u-7")
PAUSE_SECONDS: Final = 0.02
"""Pause of a client between two requests, which leaves the backups some time of the processors."""
IMPORT_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Site:
    """Folder with a store, its folder `data`, and the environment of commands that use them."""

    folder: Path
    backend: str

    @property
    def url(self) -> str:
        """URL of the store."""
        name = {"json": "chalk", "sqlite": "chalk.db"}[self.backend]
        return f"{self.backend}:///{self.folder}/{name}"

    @property
    def settings(self) -> Settings:
        """Settings of functions that use the store."""
        return load_settings({"storage": self.url, "data": str(self.folder / "data")})

    @property
    def environ(self) -> dict[str, str]:
        """Settings as environment variables."""
        return {"CHALK_STORAGE": self.url, "CHALK_DATA": str(self.folder / "data")}

    def open(self) -> Backend:
        """Open the store."""
        return open_store(self.url, COLLECTIONS)

    def run(self, *args: str) -> None:
        """Run a command in a process. Raises AssertionError if it fails."""
        command = [sys.executable, "-m", "chalk_flask", *args]
        environ = os.environ | self.environ
        completed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
        assert completed.returncode == 0, (args, completed.stderr)


@dataclass(frozen=True)
class Progress:
    """Numbers of the last write and the last import."""

    write: int
    imported: int


@dataclass
class Load:
    """Clients of a service, each in a thread until the end."""

    site: Site
    port: int
    token: str
    write: int = 0
    imported: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    is_ending: threading.Event = field(default_factory=threading.Event)

    @property
    def acknowledged(self) -> Progress:
        """Progress that the clients know of."""
        return Progress(self.write, self.imported)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients until the block ends."""
        steps = [self._write, self._import, *[self._read] * 3]
        threads = [threading.Thread(target=self._repeat, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.is_ending.set()
            for thread in threads:
                thread.join()

    def _repeat(self, step: Callable[[http.client.HTTPConnection, int], None]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            for number in itertools.count(1):
                if self.is_ending.is_set():
                    return
                step(connection, number)
        except (AssertionError, OSError, http.client.HTTPException) as error:
            self.errors.append(f"{step.__name__}: {error!r}")
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPConnection, number: int) -> None:
        category = json.dumps({"category": {"title": str(number)}}).encode()
        path = f"/categories/new-{number % CATEGORIES}"
        while (status := self._request(connection, "PUT", path, category)) == 503:  # others held the lock for too long
            if self.is_ending.is_set():
                return
        assert status in (200, 201), status
        self.write = number
        self.counts["writes"] += 1
        self.is_ending.wait(PAUSE_SECONDS)

    def _import(self, _: http.client.HTTPConnection, number: int) -> None:
        path = self.site.folder / "next.zip"
        rows = [
            small_row("users", "pupil-2", sourcedId=f"u-{key}", username=f"u{key}", givenName=f"Name {number}")
            for key in range(USERS)
        ]
        delta_package(users=rows).zip(path)
        self.site.run("import", str(path))
        self.imported = number
        self.counts["imports"] += 1
        self.is_ending.wait(IMPORT_PAUSE_SECONDS)

    def _read(self, connection: http.client.HTTPConnection, number: int) -> None:
        status = self._request(connection, "GET", READS[number % len(READS)])
        assert status == 200, status
        self.counts["reads"] += 1
        self.is_ending.wait(PAUSE_SECONDS)

    def _request(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> int:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, API + path, body or None, headers)
        response = connection.getresponse()
        response.read()
        return response.status


def create_site(site: Site) -> str:
    """Create a store with a roster in which no change is held, and return a token of a grade tool."""
    site.folder.mkdir(parents=True)
    first = site.folder / "first.zip"
    package_with_users(USERS).zip(first)
    site.run("import", str(first))
    with site.open() as store:
        TenantStore(store).update("default", max_changed="off")
        token, _ = TokenStore(store).create("grade tool", ALL)
    assert token
    return token


def back_up_and_restore(site: Site, load: Load, folder: Path) -> dict[str, Any]:
    """Back the store up while it is used, restore it elsewhere, and return what is there."""
    archive, restored = folder / "backup.tar.gz", Site(folder / "restored", site.backend)
    before, started = load.acknowledged, time.monotonic()
    with site.open() as store:
        create_backup(store, site.settings, lambda: archive.open("xb"), requested_by="operator")
    seconds = time.monotonic() - started
    after = load.acknowledged
    restored.folder.mkdir()
    with archive.open("rb") as stream:
        restore_backup(lambda: ArchiveReader(stream, None), restored.settings, replace=False, requested_by="operator")
    with restored.open() as store:
        state = read_state(store)
    return state | {"seconds": seconds, "problem": state["problem"] or find_problem(state, before, after)}


def read_state(store: Backend) -> dict[str, Any]:
    """Return the numbers of write and import of a store, its audit events, and a problem or ""."""
    with store.read("default") as snapshot:
        users = [json.loads(record.body) for record in snapshot.scan("users")]
        categories = [json.loads(record.body) for record in snapshot.scan("categories")]
        events = list(snapshot.keys("audit"))
    names = {user["givenName"] for user in users if user["sourcedId"].startswith("u-")}
    titles = {each["sourcedId"]: int(each["title"]) for each in categories if each["sourcedId"].startswith("new-")}
    write = max(titles.values(), default=0)
    expected = {f"new-{number % CATEGORIES}": number for number in range(max(write - CATEGORIES, 0) + 1, write + 1)}
    problems = [*check_store(store, "default").problems, *store.check()]
    if titles != expected:
        problems.append(f"the categories are not those after write {write}: {titles}")
    if len(names) != 1:
        problems.append(f"the users have names of several imports: {sorted(names)}")
    imported = max(int(name.rpartition(" ")[2]) if name.startswith("Name ") else 0 for name in names)
    return {"write": write, "imported": imported, "events": events, "problem": "; ".join(problems)}


def find_problem(state: dict[str, Any], before: Progress, after: Progress) -> str:
    """Return a problem if acknowledged changes are missing, or later ones are there. One change may be in progress."""
    if not before.write <= state["write"] <= after.write + 1:
        return f"write {state['write']} is not between {before.write} and {after.write}"
    if not before.imported <= state["imported"] <= after.imported + 1:
        return f"import {state['imported']} is not between {before.imported} and {after.imported}"
    return ""


def run_rounds(folder: Path, backend: str, count: int) -> dict[str, Any]:
    """Run rounds and return their figures."""
    site = Site(folder / "live", backend)
    token, states, started = create_site(site), [], time.monotonic()
    with ExitStack() as stack:
        processes = 2 if backend == "sqlite" else 1
        service = stack.enter_context(supervised_service(site.folder, processes=processes, **site.environ))
        load = Load(site, service.port, token)
        stack.enter_context(load.running())
        while not (load.errors or (load.write and load.imported and load.counts["reads"])):
            time.sleep(0.05)
        for _ in range(count):
            with tempfile.TemporaryDirectory(dir=folder) as name:
                states.append(back_up_and_restore(site, load, Path(name)))
    with site.open() as store, store.read("default") as snapshot:
        sequence = list(snapshot.keys("audit"))
    problems = [state["problem"] for state in states if state["problem"]]
    problems += ["events are missing" for each in states if each["events"] != sequence[: len(each["events"])]]
    return {
        "backend": backend,
        "backups": len(states),
        "broken": len(problems),
        "states": len({(state["write"], state["imported"]) for state in states}),
        "imported states": len({state["imported"] for state in states}),
        **load.counts,
        "slowest backup seconds": round(max(state["seconds"] for state in states), 2),
        "seconds": round(time.monotonic() - started, 1),
        "problems": problems + load.errors,
    }


@click.command()
@click.option("--backend", type=click.Choice(["sqlite", "json"]), default="sqlite")
@click.option("--rounds", "count", type=click.IntRange(min=1), default=50)
def main(backend: str, count: int) -> None:
    """Run rounds, and print their results. The exit code is 1 if a promise was broken or a request failed."""
    with tempfile.TemporaryDirectory() as name:
        figures = run_rounds(Path(name), backend, count)
    click.echo(json.dumps(figures))
    sys.exit(int(bool(figures["problems"])))


if __name__ == "__main__":
    main()
