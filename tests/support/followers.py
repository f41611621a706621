"""A roster that changes under a server that may be killed: who changes it, who follows it, and how it is served."""

from __future__ import annotations

import http.client
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chalk_flask.oneroster.schemas import RESOURCES
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT, run_command
from tests.support.packages import Made
from tests.support.receiver import Receiver

PUBLIC_URL = "https://roster.example.org"
API_PATH = "/api/oneroster/v1p1"
CHANGE_TIME = "2026-09-01T10:00:00.000Z"
USER_COUNT, CATEGORY_COUNT, DELTA_ROW_COUNT = 150, 40, 60


@dataclass
class Follower:
    """A client that began with a full read and follows the feed, whatever happens to the server."""

    records: dict[tuple[str, str], Any]
    sequence: int
    last_numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, client: Client) -> bool:
        """Take in one page; whether there are more. Raises OSError and HTTPException when the server is gone."""
        page = client.get(f"/changes?since={self.sequence}&limit=50")
        for change in page["changes"]:
            assert change["sequence"] > self.sequence
            name = change["entity"], change["sourcedId"]
            self.records[name], self.last_numbers[name] = change["record"], change["sequence"]
        self.sequence = page["sequence"]
        return bool(page["more"])


@dataclass
class Client:
    """A client with one connection to one life of the server."""

    port: int
    token: str

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, path: str, method: str = "GET", body: object = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        self.connection.request(method, API_PATH + path, sent, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def get(self, path: str) -> Any:
        status, body = self.request(path)
        assert status == 200, body
        return json.loads(body)

    def read_all(self) -> dict[tuple[str, str], Any]:
        """All that can be read, deleted records too, by entity and id."""
        condition = quote("dateLastModified>'2000-01-01'")
        return {
            (resource.singular_name, record["sourcedId"]): record
            for name, resource in RESOURCES.items()
            for record in self.get(f"/{name}?filter={condition}")[name]
        }

    def close(self) -> None:
        self.connection.close()


class RosterUnderTest:
    """A store with a roster, a token, and two webhooks for the receiver: one event a record, and one a run."""

    def __init__(self, folder: Path, storage: str, receiver: Receiver, generator: random.Random) -> None:
        self.folder, self.storage, self._random = folder, storage, generator
        self._words = ("--storage", storage, "--data", str(folder / "data"))
        self._serving = (*self._words, "--webhook-allowed-hosts", "127.0.0.1", "--public-url", PUBLIC_URL)
        self._number = 0
        run_command(folder, "import", self._base().zip(folder / "base.zip"), *self._words)
        token = run_command(folder, "token", "create", "--label", "t", "--scope", "all", "--json", *self._words[:2])
        self.token: str = json.loads(token)["token"]
        self.webhooks = {mode: self._webhook(receiver.url, mode) for mode in ("per_entity", "batched")}

    def _webhook(self, url: str, mode: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(
            run_command(
                self.folder, "webhook", "create", "--url", url, "--mode", mode, "--full", "--json", *self._serving
            )
        )
        return made

    @staticmethod
    def _base() -> Made:
        made = Made()
        like = made.row("users", "pupil-2")
        for number in range(USER_COUNT):
            made.rows["users"].append(like | {"sourcedId": f"u-{number}", "username": f"u{number}"})
        return made

    @contextmanager
    def server(self) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """A life of the server, killed at the end unless it has ended, and its port."""
        words = ("serve", "--port", "0", *self._serving)
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *words],
            cwd=self.folder,
            env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
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

    def start_delta_import(self) -> subprocess.Popen[bytes]:
        """An import of some users, changed, deleted, revived or new, that has begun."""
        made = Made().only("users")
        made.properties["file.users"] = "delta"
        like = made.row("users", "pupil-2")
        made.rows["users"] = []
        for place, number in enumerate(self._random.sample(range(USER_COUNT + 50), DELTA_ROW_COUNT)):
            status = "tobedeleted" if place < 5 else "active"
            cells = {
                "sourcedId": f"u-{number}",
                "username": f"u{number}",
                "status": status,
                "dateLastModified": CHANGE_TIME,
            }
            made.rows["users"].append(like | cells | {"givenName": f"Name {self._random.random()}"})
        self._number += 1
        package = made.zip(self.folder / f"delta-{self._number}.zip")
        words = [sys.executable, "-m", "chalk_flask", "import", str(package), *self._words]
        environ = CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(words, cwd=self.folder, env=environ, stdout=subprocess.DEVNULL)

    def write_category(self, client: Client) -> None:
        """Write or delete a category. Raises OSError and HTTPException when the server is gone."""
        key = f"c-{self._random.randrange(CATEGORY_COUNT)}"
        if self._random.random() < 0.2:
            status, body = client.request(f"/categories/{key}", "DELETE")
            assert status in (200, 204, 404), body
        else:
            category = {"title": f"Title {self._random.random()}"}
            status, body = client.request(f"/categories/{key}", "PUT", {"category": category})
            assert status in (200, 201), body
