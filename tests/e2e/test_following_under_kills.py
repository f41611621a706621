"""The server is killed again and again while a roster changes: who follows, and who is told, misses nothing.

It takes some seconds as it stands; `FOLLOWED_CHANGES=10000 FOLLOWED_KILLS=100` makes it minutes.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from backends import open_store
from chalk_flask.collections import COLLECTIONS
from chalk_flask.oneroster.resources import RESOURCES
from chalk_flask.outbox.deliveries import BODIES
from tests.conftest import url_in
from tests.e2e.conftest import ENVIRON, ROOT, command
from tests.roster.packages import Made
from tests.webhooks.delivering import verified
from tests.webhooks.receiving import Receiver, answering, receiving

CHANGES = int(os.environ.get("FOLLOWED_CHANGES", "150"))
KILLS = int(os.environ.get("FOLLOWED_KILLS", "3"))

SITE = "https://roster.example.org"
API = "/api/oneroster/v1p1"
WHEN = "2026-09-01T10:00:00.000Z"
USERS, CATEGORIES, DELTA = 150, 40, 25
LIVES = (0.3, 1.3)
"""For how many seconds a server lives at least and at most, once it listens."""
PATIENCE = 120.0


@dataclass
class Follower:
    """A client that began with a full read and follows the feed, whatever happens to the server."""

    records: dict[tuple[str, str], Any]
    sequence: int
    seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, client: Client) -> bool:
        """Take in one page; whether there are more. Raises OSError and HTTPException when the server is gone."""
        page = client.get(f"/changes?since={self.sequence}&limit=50")
        for change in page["changes"]:
            assert change["sequence"] > self.sequence
            name = change["entity"], change["sourcedId"]
            self.records[name], self.seen[name] = change["record"], change["sequence"]
        self.sequence = page["sequence"]
        return bool(page["more"])


@dataclass
class Client:
    """A client with one connection to one life of the server."""

    port: int
    token: str

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str, method: str = "GET", body: object = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        self.connection.request(method, API + path, sent, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def get(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def everything(self) -> dict[tuple[str, str], Any]:
        """All that can be read, deleted records too, by entity and id."""
        condition = quote("dateLastModified>'2000-01-01'")
        return {
            (resource.single, record["sourcedId"]): record
            for name, resource in RESOURCES.items()
            for record in self.get(f"/{name}?filter={condition}")[name]
        }

    def close(self) -> None:
        self.connection.close()


class Trial:
    """A store with a roster, a token, and two webhooks for the receiver: one event a record, and one a run."""

    def __init__(self, folder: Path, storage: str, receiver: Receiver, chance: random.Random) -> None:
        self.folder, self.storage, self._chance = folder, storage, chance
        self._words = ("--storage", storage, "--data", str(folder / "data"))
        self._serving = (*self._words, "--webhook-allowed-hosts", "127.0.0.1", "--public-url", SITE)
        self._number = 0
        command(folder, "import", self._base().zip(folder / "base.zip"), *self._words)
        token = command(folder, "token", "create", "--label", "t", "--scope", "all", "--json", *self._words[:2])
        self.token: str = json.loads(token)["token"]
        self.hooks = {mode: self._webhook(receiver.url, mode) for mode in ("per_entity", "batched")}

    def _webhook(self, url: str, mode: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(
            command(self.folder, "webhook", "create", "--url", url, "--mode", mode, "--full", "--json", *self._serving)
        )
        return made

    @staticmethod
    def _base() -> Made:
        made = Made()
        like = made.row("users", "pupil-2")
        for number in range(USERS):
            made.rows["users"].append(like | {"sourcedId": f"u-{number}", "username": f"u{number}"})
        return made

    @contextmanager
    def server(self) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """A life of the server, killed at the end unless it has ended, and its port."""
        words = ("serve", "--port", "0", *self._serving)
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *words],
            cwd=self.folder,
            env=ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                found = re.search(r"Listening on http://\S+:(\d+)", process.stderr.readline())
                assert found, process.stderr.read()
                yield process, int(found[1])
            finally:
                process.kill()

    def delta(self) -> subprocess.Popen[bytes]:
        """An import of some users, changed, deleted, revived or new, that has begun."""
        made = Made().only("users")
        made.properties["file.users"] = "delta"
        like = made.row("users", "pupil-2")
        made.rows["users"] = []
        for place, number in enumerate(self._chance.sample(range(USERS + 50), DELTA)):
            status = "tobedeleted" if place < 5 else "active"
            cells = {"sourcedId": f"u-{number}", "username": f"u{number}", "status": status, "dateLastModified": WHEN}
            made.rows["users"].append(like | cells | {"givenName": f"Name {self._chance.random()}"})
        self._number += 1
        package = made.zip(self.folder / f"delta-{self._number}.zip")
        words = [sys.executable, "-m", "chalk_flask", "import", str(package), *self._words]
        environ = ENVIRON | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(words, cwd=self.folder, env=environ, stdout=subprocess.DEVNULL)

    def change(self, client: Client) -> None:
        """Write or delete a category. Raises OSError and HTTPException when the server is gone."""
        key = f"c-{self._chance.randrange(CATEGORIES)}"
        if self._chance.random() < 0.2:
            status, body = client.ask(f"/categories/{key}", "DELETE")
            assert status in (200, 204, 404), body
        else:
            category = {"title": f"Title {self._chance.random()}"}
            status, body = client.ask(f"/categories/{key}", "PUT", {"category": category})
            assert status in (200, 201), body


@dataclass
class Tally:
    """What was done."""

    changes: int = 0
    kills: int = 0


def lived(trial: Trial, follower: Follower, tally: Tally, life: float) -> None:
    """One life of the server: a client writes, another follows and an import runs until it is killed."""
    with ExitStack() as stack:
        process, port = stack.enter_context(trial.server())
        killing = threading.Timer(life, process.kill)
        killing.start()
        stack.callback(killing.cancel)
        writer, reader = (stack.enter_context(closing(Client(port, trial.token))) for _ in range(2))
        importing = trial.delta()
        most = CHANGES // KILLS
        try:
            for number in range(10**9):
                if number < most:
                    trial.change(writer)
                    tally.changes += 1
                if number % 5 == 0:
                    follower.follow(reader)
        except (OSError, http.client.HTTPException):
            process.wait(10)
        assert process.returncode is not None
        tally.kills += process.returncode < 0
        assert importing.wait(60) == 0
        tally.changes += DELTA


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_follower_and_a_receiver_miss_nothing_though_the_server_is_killed(kind: str, tmp_path: Path) -> None:
    chance, tally = random.Random(), Tally()
    storage = url_in(tmp_path, kind)
    with receiving(answering()) as receiver:
        trial = Trial(tmp_path, storage, receiver, chance)
        with trial.server() as (_, port), closing(Client(port, trial.token)) as client:
            latest = client.get("/changes?since=latest")["sequence"]
            follower = Follower(client.everything(), latest)
        while tally.kills < KILLS or tally.changes < CHANGES:
            lived(trial, follower, tally, chance.uniform(*LIVES))
        with trial.server() as (process, port), closing(Client(port, trial.token)) as client:
            while follower.follow(client):
                pass
            now = client.everything()
            wait_until_delivered(storage)
            process.terminate()
            assert process.wait(30) == 0
    assert follower.records == now
    told = bodies_told(storage)
    check_deliveries(receiver, told)
    check_order_and_states(trial, receiver, follower, now)
    logging.getLogger(__name__).info(
        "%s: %d changes, %d kills, %d events in %d requests",
        *(kind, tally.changes, tally.kills, len(told), len(receiver.requests)),
    )


def wait_until_delivered(storage: str) -> None:
    deadline = time.monotonic() + PATIENCE
    with open_store(storage, COLLECTIONS) as store:
        while True:
            with store.read("default") as snapshot:
                waiting = [
                    key for key in snapshot.keys("deliveries") if b'"state":"delivered"' not in _of(snapshot, key)
                ]
            if not waiting:
                return
            assert time.monotonic() < deadline, f"{len(waiting)} are not delivered"
            time.sleep(0.3)


def _of(snapshot: Any, key: str) -> bytes:
    body: bytes = snapshot.bodies("deliveries", [key])[key]
    return body


def bodies_told(storage: str) -> dict[str, bytes]:
    """What the outbox holds, by event."""
    with open_store(storage, COLLECTIONS) as store, store.read("default") as snapshot:
        keys = [key for key in snapshot.keys(BODIES) if key != ":state"]
        return {orjson.loads(body)["event_id"]: body for body in snapshot.bodies(BODIES, keys).values()}


def check_deliveries(receiver: Receiver, told: dict[str, bytes]) -> None:
    """Every event came at least once, and each time with the same bytes, and nothing else came."""
    came: dict[str, set[bytes]] = {}
    for _, headers, body in receiver.requests:
        came.setdefault(headers["webhook-id"], set()).add(body)
    assert came == {event: {body} for event, body in told.items()}


def check_order_and_states(trial: Trial, receiver: Receiver, follower: Follower, now: dict[Any, Any]) -> None:
    """Events came in the order of the sequence; the last of each record is its last change and holds what it is now."""
    for mode, hook in trial.hooks.items():
        ours = [each for each in receiver.requests if each[1]["x-chalk-webhook-id"] == hook["id"]]
        events = [verified(each, hook["secret"]) for each in ours]
        first = list({event["event_id"]: event for event in events}.values())
        changes = [change for event in first for change in changes_of(event)]
        numbers = [change["sequence"] for change in changes]
        assert numbers == sorted(set(numbers)), mode
        last = {(change["entity_type"], change["sourced_id"]): change for change in changes}
        assert len(last) == len(follower.seen)
        for (entity, key), number in follower.seen.items():
            change, record = last[entity, key], now[entity, key]
            if change["action"] == "deleted":  # nobody is told that a tombstone was stamped again
                assert record["status"] == "tobedeleted"
                assert change["sequence"] <= number
            else:
                assert (change["sequence"], change["entity"]) == (number, record)


def changes_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    data = event["data"]
    found: list[dict[str, Any]] = [data["single"]] if "single" in data else data["batch"]["changes"]
    return found
